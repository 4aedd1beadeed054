"""Where the windows of a sliding-window prediction lie, and how much each voxel of one counts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch
from scipy.ndimage import gaussian_filter


def window_starts(image_size: Sequence[int], patch_size: Sequence[int], step_ratio: float = 0.5) -> list[list[int]]:
    """First voxel of every window along each axis, equally spaced from border to border.

    The distance between neighbours is at most ``step_ratio * patch_size`` (apart from rounding to voxels) and the
    last window ends at the last voxel (nnU-Net, Isensee et al. 2021).

    Args:
        image_size: voxels per axis.
        patch_size: window edge per axis, at most ``image_size``.
        step_ratio: largest step as a share of the window edge, in (0, 1].

    Raises:
        ValueError: if the image is smaller than the window, or the ratio is outside (0, 1].
    """
    if not 0 < step_ratio <= 1:
        raise ValueError(f"step_ratio must be in (0, 1], got {step_ratio}")
    if len(image_size) != len(patch_size) or any(i < p for i, p in zip(image_size, patch_size, strict=True)):
        raise ValueError(f"windows of {tuple(patch_size)} do not fit an image of {tuple(image_size)}")
    starts = []
    for size, patch in zip(image_size, patch_size, strict=True):
        room = size - patch
        steps = math.ceil(room / (patch * step_ratio))
        starts.append([round(i * (room / steps)) for i in range(steps + 1)] if steps else [0])
    return starts


def windows(starts: Sequence[Sequence[int]], patch_size: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Index of every window as slices, the first axis slowest."""
    for corner in product(*starts):
        yield tuple(slice(start, start + edge) for start, edge in zip(corner, patch_size, strict=True))


def gaussian_importance(
    patch_size: Sequence[int], sigma_scale: float = 1 / 8, peak: float = 10.0, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Weight of each voxel of a window: a Gaussian about the middle voxel with the given largest value.

    Standard deviation ``sigma_scale * edge`` per axis, cut off at four of them; where that leaves a zero the smallest
    positive weight stands, so that a voxel seen only by the corner of a window has a defined mean (nnU-Net, Isensee
    et al. 2021).

    Args:
        patch_size: window edge per axis.
        sigma_scale: standard deviation as a share of the edge.
        peak: largest weight.
        dtype: of the result; zeros are replaced after the conversion, since half precision makes more of them.

    Returns:
        Weights, shape ``patch_size``.
    """
    delta = np.zeros(tuple(patch_size))
    delta[tuple(edge // 2 for edge in patch_size)] = 1
    weights = gaussian_filter(delta, [edge * sigma_scale for edge in patch_size], mode="constant", cval=0)
    importance = torch.from_numpy(weights / weights.max() * peak).to(dtype)
    return importance.clamp_(min=importance[importance > 0].min().item())


def padding_to(image_size: Sequence[int], patch_size: Sequence[int]) -> list[tuple[int, int]]:
    """Voxels to add before and after each axis so that a window fits; the odd one goes after."""
    missing = [max(patch - size, 0) for size, patch in zip(image_size, patch_size, strict=True)]
    return [(amount // 2, amount - amount // 2) for amount in missing]
