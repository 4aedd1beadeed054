"""How large a structure is: milliliters of a volume, pixels of an image."""

from __future__ import annotations

from collections.abc import Sequence

FLAT_SPACING = 999
"""First spacing of a 2-D image, or more, see :func:`custom_apps.seg.volume_io.read_images`."""


def voxel_size(spacing_mm: Sequence[float], shape: Sequence[int]) -> tuple[float, str]:
    """Size of a voxel and its unit.

    Args:
        spacing_mm: in array order (z, y, x).
        shape: of the array (z, y, x).

    Returns:
        Milliliters and ``ml``; of a 2-D image 1 and ``pixels``.
    """
    if shape[0] == 1 and spacing_mm[0] >= FLAT_SPACING:
        return 1.0, "pixels"
    z, y, x = spacing_mm
    return z * y * x / 1000, "ml"
