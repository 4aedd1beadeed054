"""Cropping to the region in which an image is not zero."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_fill_holes

OUTSIDE = -1
BoundingBox = list[list[int]]


def nonzero_mask(image: np.ndarray) -> np.ndarray:
    """Voxels (z, y, x) at which any channel of ``image`` (C, z, y, x) differs from zero, holes filled.

    An image that is zero everywhere counts as non-zero everywhere.
    """
    mask = binary_fill_holes((image != 0).any(axis=0))
    return mask if mask.any() else np.ones_like(mask)


def bounding_box(mask: np.ndarray) -> BoundingBox:
    """Smallest box around the true voxels: [lower, upper) for each axis."""
    box = []
    for axis in range(mask.ndim):
        inside = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append([int(inside[0]), int(inside[-1]) + 1])
    return box


def crop_to_nonzero(image: np.ndarray, seg: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, BoundingBox]:
    """Crops an image and its label map to the non-zero region (nnU-Net, Isensee et al. 2021).

    Args:
        image: (C, z, y, x).
        seg: label map (1, z, y, x), or None.

    Returns:
        The cropped image; the cropped label map, a signed copy in which background outside the region is -1 (without a
        label map: 0 inside and -1 outside); and the box.
    """
    mask = nonzero_mask(image)
    box = bounding_box(mask)
    crop = tuple(slice(lower, upper) for lower, upper in box)
    mask = mask[crop][None]
    if seg is None:
        cropped = np.where(mask, 0, OUTSIDE).astype(np.int16)
    else:
        cropped = seg[(slice(None), *crop)].astype(np.int16)
        cropped[(cropped == 0) & ~mask] = OUTSIDE
    return image[(slice(None), *crop)], cropped, box
