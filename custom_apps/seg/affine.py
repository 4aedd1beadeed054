"""Geometry of an array (z, y, x) as the 4 × 4 matrix that MONAI and nibabel use, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.utils import MetaKeys

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""ITK's patient axes run to left, posterior, superior; those of NIfTI and MONAI to right, anterior, superior."""


def affine_of(properties: dict[str, Any]) -> np.ndarray:
    """Matrix from voxel index (z, y, x) to position in mm (right, anterior, superior), float64.

    Args:
        properties: as read with an image: ``spacing`` in array order and, from medical formats, ``sitk`` with origin
            and direction. Other images have no position; they start at the origin and run to left,
            posterior, superior.
    """
    geometry = properties.get("sitk")
    affine = np.eye(4)
    if geometry is None or len(geometry["spacing"]) == 2:
        affine[:3, :3] = np.diag(properties["spacing"][::-1])
    else:
        affine[:3, :3] = np.reshape(geometry["direction"], (3, 3)) * np.asarray(geometry["spacing"])
        affine[:3, 3] = geometry["origin"]
    return (LPS_TO_RAS @ affine)[:, [2, 1, 0, 3]]


def meta_tensor(array: np.ndarray, properties: dict[str, Any], path: str | Path | None = None) -> MetaTensor:
    """MetaTensor (C, z, y, x) that MONAI places and writes correctly.

    Args:
        array: shape (C, z, y, x).
        properties: as read with the image it belongs to.
        path: file it comes from, or belongs to.
    """
    # Files have no channel axis; without being told, MONAI's writers take one channel of a volume for a 2-D image.
    meta = {MetaKeys.SPATIAL_SHAPE: np.array(array.shape[1:]), MetaKeys.ORIGINAL_CHANNEL_DIM: "no_channel"}
    if path is not None:
        meta["filename_or_obj"] = str(path)
    return MetaTensor(np.ascontiguousarray(array), affine=affine_of(properties), meta=meta)


def properties_of(affine: np.ndarray) -> dict[str, Any]:
    """Properties of an array (z, y, x) whose transpose (x, y, z) has the given MONAI affine.

    Args:
        affine: matrix from index (x, y, z) to position in mm, 4 × 4.

    Returns:
        ``spacing`` in the order (z, y, x) and ``sitk`` geometry, JSON values.
    """
    lps = LPS_TO_RAS @ np.asarray(affine, np.float64)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    return {
        "spacing": spacing[::-1].tolist(),
        "reader": "SimpleITKIO",
        "sitk": {
            "spacing": spacing.tolist(),
            "origin": lps[:3, 3].tolist(),
            "direction": (lps[:3, :3] / spacing).ravel().tolist(),
        },
    }
