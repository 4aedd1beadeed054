"""Anatomy of the phantom jaw: cone-beam CT with canals, sinuses and teeth of both sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from custom_apps.seg.toothfairy3 import PULP_OFFSET

EXTENT_MM = (76.0, 60.0, 72.0)
"""Height, depth and width of the phantom."""

AIR_HU, TISSUE_HU, BONE_HU, TOOTH_HU, PULP_HU, CANAL_HU = -1000.0, 40.0, 900.0, 2000.0, 300.0, 150.0

ARCH_MM = (36.0, 24.0)
"""Half axes (y, x) of the dental arch, an ellipse open to the back."""
FRONT_MM = 8.0
LOWER_JAW_Z, UPPER_JAW_Z = 16.0, 60.0
JAW_RADII_MM = (12.0, 7.0)


@dataclass(frozen=True)
class Tooth:
    """A tooth by FDI number, at an angle of the arch (0 front, positive to the patient's left)."""

    fdi: int
    degrees: float
    radius_mm: float

    @property
    def z_mm(self) -> float:
        """Height of its centre."""
        return 46.0 if self.fdi < 30 else 30.0


TEETH = (
    Tooth(11, -7, 2.6),
    Tooth(21, 7, 2.6),
    Tooth(36, 50, 4.2),
    Tooth(46, -50, 4.2),
    Tooth(38, 74, 3.8),
    Tooth(48, -74, 3.8),
)
SOURCE_IDS = (1, 2, 3, 4, 5, 6, *(t.fdi for t in TEETH), 103, 104, 105, *(t.fdi + PULP_OFFSET for t in TEETH))
"""ToothFairy3's ids of everything that is drawn."""


def jaw_case(random: np.random.Generator, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One phantom, with lengths and places that differ from case to case and from side to side.

    Args:
        random: source of every draw.
        shape: voxels (z, y, x); x grows to the patient's left, y to the back, z upwards.

    Returns:
        Image in HU, int16, and label map with ToothFairy3's ids, uint8.
    """
    spacing = np.array(EXTENT_MM) / shape
    axes = [(np.arange(n) + 0.5) * step for n, step in zip(shape, spacing, strict=True)]
    grid = np.stack(np.meshgrid(axes[0], axes[1], axes[2] - EXTENT_MM[2] / 2, indexing="ij"))
    grid = grid + np.stack([_smooth(random, shape, 14.0 / spacing) for _ in range(3)])
    z, y, x = grid
    distance, degrees = _arch(y, x)
    image = np.where((x / 35) ** 2 + ((y - 34) / 33) ** 2 < 1, TISSUE_HU, AIR_HU)
    labels = np.zeros(shape, np.uint8)

    def draw(inside: np.ndarray, label: int, hounsfield: float) -> None:
        image[inside], labels[inside] = hounsfield, label

    for label, height in ((1, LOWER_JAW_Z), (2, UPPER_JAW_Z)):
        draw(((z - height) / JAW_RADII_MM[0]) ** 2 + (distance / JAW_RADII_MM[1]) ** 2 < 1, label, BONE_HU)
    for side, canal, incisive, sinus in ((1, 3, 103, 5), (-1, 4, 104, 6)):
        angle, radius = side * degrees, random.uniform(2.1, 2.7)
        tube = distance**2 + (z - 11 - 0.07 * (angle - 25)) ** 2
        draw((tube < radius**2) & (angle > 25) & (angle < 82), canal, CANAL_HU)
        draw((tube < 1.8**2) & (angle > 6) & (angle <= 25), incisive, CANAL_HU)
        center = random.normal((65.0, 27.0, side * 20.0), 0.5)
        draw(_ellipsoid(grid, center, random.uniform(0.9, 1.1, 3) * (7, 8, 5)), sinus, AIR_HU)
    draw(_ellipsoid(grid, (9.0, FRONT_MM + 4, 0.0), (1.9, 3.5, 1.9)), 105, CANAL_HU)
    for tooth in TEETH:
        angle = np.radians(tooth.degrees + random.normal(0, 1))
        center = np.array([tooth.z_mm, FRONT_MM + ARCH_MM[0] * (1 - np.cos(angle)), ARCH_MM[1] * np.sin(angle)])
        radius = tooth.radius_mm * random.uniform(0.9, 1.1)
        draw(_ellipsoid(grid, center, (8, radius, radius)), tooth.fdi, TOOTH_HU)
        draw(_ellipsoid(grid, center, (5.5, 0.5 * radius, 0.5 * radius)), tooth.fdi + PULP_OFFSET, PULP_HU)
    # Partial volume, and the noise of a cone beam.
    image = gaussian_filter(image, 0.5) + 60 * _smooth(random, shape, 20.0 / spacing) + random.normal(0, 50, shape)
    return np.clip(np.round(image), -1024, 3071).astype(np.int16), labels


def _arch(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In-plane distance in mm to the arch, and angle in degrees of its nearest point."""
    angles = np.radians(np.linspace(-88, 88, 353))
    curve = np.stack([FRONT_MM + ARCH_MM[0] * (1 - np.cos(angles)), ARCH_MM[1] * np.sin(angles)], axis=1)
    distance, nearest = cKDTree(curve).query(np.stack([y.ravel(), x.ravel()], axis=1))
    return distance.reshape(y.shape), np.degrees(angles)[nearest].reshape(y.shape)


def _ellipsoid(grid: np.ndarray, center: np.ndarray, radii_mm: np.ndarray) -> np.ndarray:
    return sum(((grid[axis] - center[axis]) / radii_mm[axis]) ** 2 for axis in range(3)) < 1


def _smooth(random: np.random.Generator, shape: tuple[int, int, int], width: np.ndarray) -> np.ndarray:
    """A smooth field of unit deviation."""
    field = gaussian_filter(random.normal(size=shape), width)
    return field / field.std()
