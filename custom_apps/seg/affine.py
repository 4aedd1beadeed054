"""Geometry of an array (z, y, x) as the 4 × 4 matrix that MONAI and nibabel use, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

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
