"""A synthetic brain without its skull: tissues, and how bright they are in four MR contrasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from custom_apps.brain.contrasts import CONTRASTS

BACKGROUND, CSF, GRAY, WHITE = range(4)
INTENSITY = {
    # Background, cerebrospinal fluid, gray matter, white matter.
    "t1": (0.0, 0.28, 0.62, 0.85),
    "t2": (0.0, 1.00, 0.58, 0.44),
    "t1ce": (0.0, 0.30, 0.66, 0.87),
    "flair": (0.0, 0.18, 0.66, 0.54),
}
HALF_AXES_MM = (66.0, 84.0, 60.0)
"""Of the cerebrum: to the right, to the front, upwards."""


@dataclass(frozen=True)
class Head:
    """Tissues of a brain on a grid whose axes run to the right, to the front and upwards.

    Attributes:
        tissue: uint8 (x, y, z), values ``BACKGROUND`` to ``WHITE``.
        depth_mm: distance below the surface, about, float32.
        position_mm: (3, x, y, z) about the middle of the brain.
    """

    tissue: np.ndarray
    depth_mm: np.ndarray
    position_mm: np.ndarray


def smooth_noise(random: np.random.Generator, shape: Sequence[int], width_voxels: float) -> np.ndarray:
    """A field of mean 0 and deviation 1, correlated over ``width_voxels``."""
    field = gaussian_filter(random.standard_normal(shape, np.float32), width_voxels, mode="wrap")
    return (field - field.mean()) / field.std()


def head(random: np.random.Generator, shape: Sequence[int], spacing_mm: float) -> Head:
    """Draws a brain: size and form vary by some percent from one to the next.

    Args:
        random: source of every draw.
        shape: voxels of the volume.
        spacing_mm: edge of a voxel.
    """
    axes = [(np.arange(n, dtype=np.float32) - (n - 1) / 2) * spacing_mm for n in shape]
    position = np.stack(np.meshgrid(*axes, indexing="ij"))
    wobble = np.stack([smooth_noise(random, shape, 28 / spacing_mm) for _ in range(3)])
    x, y, z = position + 2.0 * wobble
    scale = random.uniform(0.94, 1.04, 3)
    half = np.array(HALF_AXES_MM) * scale

    # Narrower in front than behind, flat below.
    width = half[0] * (1 - 0.10 * (y / half[1]))
    radius = np.sqrt((x / width) ** 2 + (y / half[1]) ** 2 + (np.where(z < 0, z * 1.25, z) / half[2]) ** 2)
    cerebrum = (1 - radius) * half.mean()
    cerebellum = (1 - _ellipsoid(x, y, z, (0, -46, -38), (46, 32, 24))) * 32
    stem = (1 - _ellipsoid(x, y, z, (0, -18, -46), (13, 14, 34))) * 14
    depth = np.maximum(np.maximum(cerebrum, cerebellum), stem).astype(np.float32)
    inside = depth > 0

    folds = smooth_noise(random, shape, max(4.5 / spacing_mm, 0.8))
    folded = np.abs(folds) * 4.5
    gray_mm = random.uniform(4.5, 5.5)
    tissue = np.where(inside, WHITE, BACKGROUND).astype(np.uint8)
    tissue[inside & (depth < gray_mm)] = GRAY
    # Furrows run from the surface inwards; gray matter lines them.
    furrow = inside & (depth < 17)
    tissue[furrow & (folded < 0.26 * (17 - depth))] = GRAY
    tissue[furrow & (folded < 0.07 * (15 - depth))] = CSF
    tissue[inside & (cerebellum > 0) & (cerebellum > cerebrum) & (np.abs(np.sin(z / 3.2)) < 0.55)] = GRAY
    gap = (np.abs(x) < 1.6) & (z > 8) & (radius > 0.45) & inside
    tissue[gap & (cerebrum > 0)] = CSF

    nuclei = [((13, -12, 4), (9, 13, 8)), ((25, 8, 2), (7, 17, 9)), ((14, 16, 8), (6, 9, 9))]
    swelling = random.uniform(0.8, 1.25)
    chambers = [
        ((10, 6, 15), (5.5, 27, 6.5)),
        ((11, 26, 9), (5, 11, 7)),
        ((20, -30, 8), (6.5, 17, 7)),
        ((31, -14, -12), (4, 14, 4)),
    ]
    for side in (-1, 1):
        for center, radii in nuclei:
            tissue[_ellipsoid(x * side, y, z, center, radii) < 1] = GRAY
        for center, radii in chambers:
            tissue[_ellipsoid(x * side, y, z, center, np.array(radii) * swelling) < 1] = CSF
    tissue[_ellipsoid(x, y, z, (0, -6, -2), (2.2, 13, 9)) < 1] = CSF
    tissue[_ellipsoid(x, y, z, (0, -32, -36), (5, 5, 8)) < 1] = CSF
    return Head(np.where(inside, tissue, BACKGROUND).astype(np.uint8), depth, position)


def tissue_images(head: Head) -> dict[str, np.ndarray]:
    """Brightness of the tissues in each contrast, float32, sharp and without noise."""
    return {name: np.array(INTENSITY[name], np.float32)[head.tissue] for name in CONTRASTS}


def _ellipsoid(x, y, z, center: Sequence[float], radii: Sequence[float]) -> np.ndarray:
    """Distance from the center in units of the radii."""
    return np.sqrt(sum(((v - c) / r) ** 2 for v, c, r in zip((x, y, z), center, radii, strict=True)))
