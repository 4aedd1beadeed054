"""Thyroid nodules with the signs by which readers tell benign from malignant ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from custom_apps.thyroid.phantom_neck import BLOOD_DB, BLOOD_LOSS, GLAND_DB, SOFT_LOSS, Lobe
from custom_apps.thyroid.phantom_scanner import PIXEL_MM, Tissue
from custom_apps.thyroid.phantom_texture import texture

BENIGN = ("solid", "spongiform", "cystic")
CALCIFICATION_DB, CALCIFICATION_LOSS = 1.0, 3.0


@dataclass(frozen=True)
class Nodule:
    """Outline of a nodule.

    Attributes:
        place_mm: middle along the probe and in depth.
        half_mm: half the width and half the height.
        waves: amplitude of the border's deviation, a share of the radius, for 2, 3, … waves around.
        phases: of these waves, radians.
        tilt: of the whole, radians.
    """

    place_mm: tuple[float, float]
    half_mm: tuple[float, float]
    waves: tuple[float, ...]
    phases: tuple[float, ...]
    tilt: float

    @classmethod
    def drawn(cls, random: np.random.Generator, lobe: Lobe, malignant: bool) -> Nodule:
        """Oval and smooth, or taller than wide with an irregular border; within the lobe."""
        radius = random.uniform(3.4, 5.2) if malignant else random.uniform(3.6, 6.0)
        aspect = random.uniform(0.68, 0.88) if malignant else random.uniform(1.2, 1.65)
        half = (radius * np.sqrt(aspect), min(radius / np.sqrt(aspect), 0.86 * lobe.half_mm[1]))
        room = [max(0.0, (whole - own) * 0.62) for whole, own in zip(lobe.half_mm, half, strict=True)]
        place = tuple(middle + random.uniform(-free, free) for middle, free in zip(lobe.place_mm, room, strict=True))
        orders = np.arange(2, 12)
        size = 0.10 / orders**0.5 if malignant else 0.06 / orders**1.6
        return cls(
            place,
            half,
            tuple(size * random.normal(size=len(orders))),
            tuple(random.uniform(0, 2 * np.pi, len(orders))),
            random.normal(0, 0.15),
        )

    def distance_mm(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Signed distance to the border at places along the probe and in depth, positive inside, about in mm."""
        x, y = x - self.place_mm[0], y - self.place_mm[1]
        x, y = x * np.cos(self.tilt) + y * np.sin(self.tilt), y * np.cos(self.tilt) - x * np.sin(self.tilt)
        radius = np.hypot(x / self.half_mm[0], y / self.half_mm[1])
        angle = np.arctan2(y / self.half_mm[1], x / self.half_mm[0])
        border = 1 + sum(
            wave * np.cos(order * angle + phase)
            for order, (wave, phase) in enumerate(zip(self.waves, self.phases, strict=True), start=2)
        )
        return (border - radius) * min(self.half_mm)


def add_nodule(tissue: Tissue, nodule: Nodule, kind: str, random: np.random.Generator) -> np.ndarray:
    """Puts a nodule into tissue.

    Args:
        tissue: changed in place.
        nodule: the outline.
        kind: ``solid`` (as bright as the gland, with a dark halo), ``spongiform`` (many small cysts), ``cystic`` (fluid
            with a brighter back) or ``malignant`` (dark, with bright specks and a weak shadow).
        random: source of textures.

    Returns:
        bool (H, W), the nodule.
    """
    inside = nodule.distance_mm(tissue.place_mm, tissue.depth_mm)
    shape = inside.shape
    soft = np.clip(inside / 0.3 + 0.5, 0, 1)
    if kind == "malignant":
        grain = GLAND_DB - random.uniform(13, 17) + 1.8 * _texture(random, shape, 0.5)
        tissue.paint(soft, grain, SOFT_LOSS + random.uniform(0.15, 0.4))
        _calcify(tissue, random, inside, random.integers(5, 14))
        return inside > 0
    halo = np.exp(-(((inside - 0.1) / 0.45) ** 2))
    if kind == "cystic":
        tissue.paint(soft, BLOOD_DB + 3 * _texture(random, shape, 0.8), BLOOD_LOSS)
        clots = np.clip((_texture(random, shape, 1.0) - 1.3) * 2, 0, 1) * np.clip(inside, 0, 1)
        tissue.paint(clots, GLAND_DB - 6)
        return inside > 0
    grain = GLAND_DB + random.uniform(-5, 1) + 1.5 * _texture(random, shape, 0.7)
    tissue.paint(soft, grain)
    if kind == "spongiform":
        holes = _texture(random, shape, 0.34)
        tissue.paint(np.clip((holes - 0.35) * 3, 0, 1) * np.clip(inside - 0.3, 0, 1), BLOOD_DB + 14, BLOOD_LOSS + 0.2)
        walls = np.exp(-(((holes - 0.3) / 0.12) ** 2)) * np.clip(inside - 0.3, 0, 1)
        tissue.paint(0.5 * walls, GLAND_DB + 4)
    tissue.paint(0.85 * halo, GLAND_DB - 13)
    return inside > 0


def _calcify(tissue: Tissue, random: np.random.Generator, inside: np.ndarray, count: int) -> None:
    """Specks of less than a millimeter well within the nodule."""
    places = np.argwhere(inside > 0.25 * inside.max())
    for row, column in places[random.integers(len(places), size=count)]:
        spot = np.s_[row : row + random.integers(1, 3), column : column + random.integers(1, 3)]
        tissue.echo_db[spot] = CALCIFICATION_DB + random.normal(0, 2)
        tissue.loss_db_per_mm[spot] = CALCIFICATION_LOSS


def _texture(random: np.random.Generator, shape: tuple[int, int], size_mm: float) -> np.ndarray:
    return texture(random, shape, (size_mm / PIXEL_MM,) * 2)
