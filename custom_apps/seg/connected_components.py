"""Connected components of masks, by the usual numbers of neighbours."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import generate_binary_structure, label

CONNECTIVITIES = {6: 1, 18: 2, 26: 3}
"""Neighbours of a voxel (sharing faces, edges, corners) and SciPy's name for them."""


def connected_components(mask: np.ndarray, connectivity: int) -> np.ndarray:
    """Number of the component of every voxel of a mask, 0 outside it.

    Args:
        mask: boolean (z, y, x).
        connectivity: 6, 18 or 26.

    Raises:
        ValueError: for another connectivity.
    """
    check_connectivity(connectivity)
    structure = generate_binary_structure(3, CONNECTIVITIES[connectivity])
    return label(mask, structure)[0]


def check_connectivity(connectivity: int) -> None:
    """Raises a ValueError for another number of neighbours than 6, 18 or 26."""
    if connectivity not in CONNECTIVITIES:
        raise ValueError(f"connectivity must be one of {', '.join(map(str, CONNECTIVITIES))}, got {connectivity!r}")
