"""Where a training patch may lie, how large it is before augmentation, and which class it is centred on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Rotation and scaling see beyond the final patch; nnU-Net sizes the margin for zooming to 85 %.
SMALLEST_SCALE = 0.85
DUMMY_2D_ASPECT = 3.0
ELONGATED_2D_ASPECT = 1.5


@dataclass(frozen=True)
class SpatialRange:
    """What the spatial augmentation of a patch may do.

    Attributes:
        rotation: largest angle about each axis in radians; one number in 2D.
        dummy_2d: whether slices along the first axis are transformed as 2D images, all alike.
    """

    rotation: tuple[float, ...]
    dummy_2d: bool


def spatial_range(patch_size: Sequence[int]) -> SpatialRange:
    """Rotations that nnU-Net (Isensee et al. 2021) allows for a patch.

    3D: 30 degrees about each axis, or 180 degrees within the slices where the patch is more than three times wider
    than deep. 2D: 180 degrees, or 15 where one edge exceeds the other by more than half.
    """
    if len(patch_size) == 2:
        elongated = max(patch_size) / min(patch_size) > ELONGATED_2D_ASPECT
        return SpatialRange((math.radians(15 if elongated else 180),), dummy_2d=False)
    if max(patch_size) / patch_size[0] > DUMMY_2D_ASPECT:
        return SpatialRange((math.pi, 0.0, 0.0), dummy_2d=True)
    return SpatialRange((math.radians(30),) * 3, dummy_2d=False)


def initial_patch_size(patch_size: Sequence[int]) -> tuple[int, ...]:
    """Size of the patch that is cut out before the spatial augmentation, in voxels.

    The corner of the final patch is rotated by the largest angle (at most 90 degrees) about each axis in turn; the
    largest extent along each axis is divided by 0.85. Both directions of a rotation are allowed for, since both are
    drawn. In dummy-2D the first axis keeps its size.
    """
    allowed = spatial_range(patch_size)
    angles = [min(angle, math.pi / 2) for angle in allowed.rotation]
    size = np.array(patch_size, dtype=float)
    extent = size.copy()
    planes = [(0, 1)] if len(patch_size) == 2 else [(1, 2), (0, 2), (0, 1)]
    for (a, b), angle in zip(planes, angles, strict=True):
        cos, sin = math.cos(angle), math.sin(angle)
        extent[a] = max(extent[a], cos * size[a] + sin * size[b])
        extent[b] = max(extent[b], cos * size[b] + sin * size[a])
    result = (extent / SMALLEST_SCALE).astype(int)
    if allowed.dummy_2d:
        result[0] = patch_size[0]
    return tuple(int(edge) for edge in result)


def allowed_start(
    image_size: Sequence[int], initial_size: Sequence[int], final_size: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """First and last voxel (inclusive, per axis) at which an initial patch may begin.

    The image is thought to be grown by half the difference between initial and final patch on each side, and by more
    where it is smaller than the patch.
    """
    image, initial, final = (np.asarray(size) for size in (image_size, initial_size, final_size))
    grown = np.maximum(initial - final, initial - image)
    first = -(grown // 2)
    last = image + grown // 2 + grown % 2 - initial
    return first, np.maximum(last, first)


def is_forced(position: int, batch_size: int, oversample_foreground: float) -> bool:
    """Whether the sample at a position of the global batch must show foreground: the last third with 0.33.

    With a batch of 1 this never happens (``round(0.67)`` is 1), see ``probabilistic_oversampling`` of the data set.
    """
    return position >= round(batch_size * (1 - oversample_foreground))


def choose_centre(
    locations: Mapping[int | tuple[int, ...], np.ndarray], forced: bool, random: np.random.RandomState
) -> np.ndarray | None:
    """A stored voxel (z, y, x) that the patch shall be centred on, None where it may lie anywhere.

    Args:
        locations: for each class or region, rows (0, z, y, x); a data set with an ignore label has also a region that
            begins with -1, the whole of what is annotated.
        forced: whether foreground must be shown: the class is chosen uniformly among those present. Otherwise there
            is a centre only with an ignore label, so that no patch is without any annotation.
        random: source of the two draws.
    """
    annotated = {key for key in locations if isinstance(key, tuple) and key[0] == -1}
    wanted = [key for key in locations if (key in annotated) != forced]
    present = [key for key in wanted if len(locations[key])]
    if not present:
        return None
    rows = locations[present[random.randint(len(present))]]
    return np.asarray(rows[random.randint(len(rows))][1:])


def cut_patch(array: np.ndarray, start: Sequence[int], size: Sequence[int], fill: float) -> np.ndarray:
    """Copies a box out of (C, *S); what lies outside the array is ``fill``."""
    start, size, shape = np.asarray(start), np.asarray(size), np.asarray(array.shape[1:])
    inside = tuple(slice(max(s, 0), max(min(s + n, m), 0)) for s, n, m in zip(start, size, shape, strict=True))
    part = array[(slice(None), *inside)]
    if part.shape[1:] == tuple(size):
        return np.array(part)
    patch = np.full((array.shape[0], *size), fill, dtype=array.dtype)
    target = tuple(slice(s.start - b, s.start - b + n) for s, b, n in zip(inside, start, part.shape[1:], strict=True))
    patch[(slice(None), *target)] = part
    return patch
