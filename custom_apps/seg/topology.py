"""Depth, strides and kernels of a U-Net for a patch and a voxel spacing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SMALLEST_EDGE = 4


@dataclass(frozen=True)
class Topology:
    """What patch and spacing make of a network.

    Attributes:
        patch_size: the patch, padded to a multiple of ``divisor``.
        strides: of each stage, ones first.
        kernel_sizes: of each stage.
        divisor: product of the strides on each axis.
    """

    patch_size: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    divisor: tuple[int, ...]

    @property
    def num_stages(self) -> int:
        """Resolutions of the network."""
        return len(self.strides)


def topology(spacing: Sequence[float], patch_size: Sequence[int], max_stages: int | None = None) -> Topology:
    """Halves the patch axis by axis while it stays at least four voxels wide (nnU-Net, Isensee et al. 2021).

    An axis with voxels at least twice as long as the finest axis still to be halved waits, and keeps kernels of 1 until
    its spacing is within a factor of two of the finest.

    Args:
        spacing: in mm.
        patch_size: wanted patch in voxels, same axes.
        max_stages: stops early at this number of stages.

    Returns:
        Strides and kernels for every stage and the padded patch.
    """
    running, size = [float(value) for value in spacing], [int(n) for n in patch_size]
    axes = range(len(size))
    kernel, divisor = [1] * len(size), [1] * len(size)
    strides, kernels = [(1,) * len(size)], []
    while max_stages is None or len(strides) < max_stages:
        candidates = [axis for axis in axes if size[axis] >= 2 * SMALLEST_EDGE]
        if not candidates:
            break
        finest = min(running[axis] for axis in candidates)
        halved = [axis for axis in candidates if running[axis] / finest < 2]
        if len(halved) == 1 and size[halved[0]] < 3 * SMALLEST_EDGE:
            break
        kernels.append(_widened(kernel, running))
        strides.append(tuple(2 if axis in halved else 1 for axis in axes))
        for axis in halved:
            running[axis] *= 2
            size[axis] = -(-size[axis] // 2)
            divisor[axis] *= 2
    kernels.append((3,) * len(size))
    padded = tuple(-(-n // d) * d for n, d in zip(patch_size, divisor, strict=True))
    return Topology(padded, tuple(strides), tuple(kernels), tuple(divisor))


def _widened(kernel: list[int], spacing: Sequence[float]) -> tuple[int, ...]:
    """Widens to 3, in place, the kernels of axes whose spacing is within a factor of two of the finest."""
    finest = min(spacing)
    for axis, value in enumerate(spacing):
        if value / finest < 2:
            kernel[axis] = 3
    return tuple(kernel)
