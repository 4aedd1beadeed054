"""A neck in cross-section: skin, fat, strap muscles, a thyroid lobe beside the trachea, carotid artery and spine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from custom_apps.thyroid.phantom_scanner import PIXEL_MM, Tissue
from custom_apps.thyroid.phantom_texture import texture

# Strength of echoes in decibels below white, and loss there and back in decibels per millimeter.
SKIN_DB, FAT_DB, MUSCLE_DB, GLAND_DB, BLOOD_DB = -12.0, -31.0, -35.0, -22.5, -62.0
FASCIA_DB, WALL_DB, AIR_DB, BONE_DB = -12.0, -14.0, -3.0, -7.0
SOFT_LOSS, BLOOD_LOSS, AIR_LOSS, BONE_LOSS = 0.80, 0.15, 6.0, 5.0


@dataclass(frozen=True)
class Lobe:
    """A thyroid lobe.

    Attributes:
        place_mm: middle along the probe and in depth.
        half_mm: half the width and half the thickness.
    """

    place_mm: tuple[float, float]
    half_mm: tuple[float, float]


def neck(random: np.random.Generator, width_mm: float, height_mm: float) -> tuple[Tissue, Lobe]:
    """Draws a neck with the trachea on the left, and its lobe.

    Args:
        random: source of sizes, places and textures.
        width_mm: of the picture.
        height_mm: its depth.
    """
    shape = (round(height_mm / PIXEL_MM), round(width_mm / PIXEL_MM))
    tissue = Tissue(np.full(shape, FAT_DB + 3, np.float32), np.full(shape, SOFT_LOSS, np.float32))
    y = tissue.depth_mm
    lobe = Lobe(
        (random.uniform(15, 18), random.uniform(16.5, 18.5)), (random.uniform(9.5, 11.5), random.uniform(8.2, 9.6))
    )
    # Layers run in waves along the probe.
    wave = _waves(random, 5, shape[1])
    top = lobe.place_mm[1] - lobe.half_mm[1]
    skin, fat, deep = 1.4 + 0.1 * wave[0], 3.8 + 0.5 * wave[1], top - 0.4 + 0.25 * wave[2]

    _septa(tissue, random, fat, deep)
    muscle = MUSCLE_DB + 4 * _texture(random, shape, (0.16, 2.5)) + 2 * _texture(random, shape, (0.6, 3))
    tissue.paint(_soft(y - fat) * _soft(deep - y), muscle)
    for border, strength in ((fat, FASCIA_DB), (fat + (deep - fat) * 0.52 + 0.2 * wave[3], FASCIA_DB - 8)):
        _line(tissue, y - border, strength, 0.13)

    below = MUSCLE_DB + 3 * _texture(random, shape, (0.25, 1.6)) + 3 * _texture(random, shape, (1.2, 2.5))
    tissue.paint(_soft(y - (deep + 1)), below - 0.15 * (y - deep))
    _vessels(tissue, random, lobe)
    _gland(tissue, random, lobe)
    _trachea(tissue, random, lobe, wave[4])
    _spine(tissue, random, lobe)

    tissue.paint(_soft(skin - y), SKIN_DB + 2 * _texture(random, shape, (0.15, 2)))
    _line(tissue, y - skin, SKIN_DB + 3, 0.12)
    return tissue, lobe


def ellipse_mm(tissue: Tissue, place_mm: tuple[float, float], half_mm: tuple[float, float]) -> np.ndarray:
    """Signed distance to an ellipse, positive inside, about in millimeters."""
    x, y = (tissue.place_mm - place_mm[0]) / half_mm[0], (tissue.depth_mm - place_mm[1]) / half_mm[1]
    return (1 - np.hypot(x, y)) * min(half_mm)


def _septa(tissue: Tissue, random: np.random.Generator, fat: np.ndarray, deep: np.ndarray) -> None:
    """Fat below the skin with bright strands."""
    strands = _texture(random, tissue.echo_db.shape, (0.12, 3.5))
    tissue.paint(_soft(fat - tissue.depth_mm), FAT_DB + 11 * np.clip(strands - 0.9, 0, 1.6))


def _gland(tissue: Tissue, random: np.random.Generator, lobe: Lobe) -> None:
    """The lobe and the bridge before the trachea, even and bright, in a capsule."""
    x, y = tissue.place_mm, tissue.depth_mm
    bent = 0.35 * _waves(random, 2, len(x) + len(y))
    inside = ellipse_mm(tissue, lobe.place_mm, lobe.half_mm) + bent[0, : len(x)] + bent[1, len(x) :, None]
    bridge_y = lobe.place_mm[1] - lobe.half_mm[1] + 3.0
    bridge = np.minimum(random.uniform(1.4, 2.0) - np.abs(y - bridge_y - 0.02 * (x - 8) ** 2), lobe.place_mm[0] - x)
    inside = np.maximum(inside, bridge)
    shape = tissue.echo_db.shape
    coarse = random.uniform(0.5, 1.4)
    grain = GLAND_DB + random.normal(0, 1) + coarse * _texture(random, shape, (0.5, 0.6))
    tissue.paint(_soft(inside), grain, SOFT_LOSS)
    # The capsule is bright where the beam meets it at a right angle.
    slope = np.abs(y - lobe.place_mm[1]) / np.hypot(x - lobe.place_mm[0], y - lobe.place_mm[1])
    _line(tissue, inside, GLAND_DB - 8 + 17 * slope**3, 0.12)


def _trachea(tissue: Tissue, random: np.random.Generator, lobe: Lobe, wave: np.ndarray) -> None:
    """Cartilage, then air: one bright bow, its reverberations, and darkness."""
    x, y = tissue.place_mm, tissue.depth_mm
    radius = random.uniform(8.5, 10)
    center = (random.uniform(-1.5, 0.5), lobe.place_mm[1] - lobe.half_mm[1] + 5.6 + radius)
    distance = radius - np.hypot(x - center[0], y - center[1])
    tissue.paint(_soft(distance), MUSCLE_DB - 6)
    air = distance - 1.5
    tissue.paint(_soft(air), BLOOD_DB)
    tissue.loss_db_per_mm += (AIR_LOSS - tissue.loss_db_per_mm) * _soft(air - 0.3) * _soft(1.2 - air)
    facing = np.clip((center[1] - y) / np.hypot(x - center[0], y - center[1]), 0, 1)
    # What is seen below is the way between probe and air, run through again.
    for turn, gap in enumerate((0, 1.1, 2.4, 3.4)):
        regained = 5.0 * min(gap, 1.1) + 1.2 * gap
        strength = AIR_DB - 38 * (1 - facing) - 7 * turn + regained + 1.5 * wave
        _line(tissue, air - 0.1 - gap, strength, 0.14 + 0.12 * turn)


def _vessels(tissue: Tissue, random: np.random.Generator, lobe: Lobe) -> None:
    """Carotid artery and, flatter and nearer to the skin, the jugular vein."""
    edge = lobe.place_mm[0] + lobe.half_mm[0]
    artery = (edge + random.uniform(2.6, 3.8), lobe.place_mm[1] + random.uniform(1, 4))
    radius = random.uniform(2.7, 3.4)
    vein = (artery[0] + random.uniform(4.5, 6), artery[1] - random.uniform(3, 5))
    for place, half, wall in (
        (artery, (radius, radius), WALL_DB),
        (vein, (random.uniform(3, 4.5), random.uniform(1.3, 2.2)), WALL_DB - 7),
    ):
        inside = ellipse_mm(tissue, place, half)
        steep = np.abs(tissue.depth_mm - place[1]) / (np.hypot(tissue.place_mm - place[0], tissue.depth_mm - place[1]))
        tissue.paint(_soft(inside), BLOOD_DB + 6 * _texture(random, tissue.echo_db.shape, (0.5, 0.8)), BLOOD_LOSS)
        _line(tissue, inside + 0.25, wall - 26 * (1 - steep), 0.18)


def _spine(tissue: Tissue, random: np.random.Generator, lobe: Lobe) -> None:
    """The longus colli muscle behind the lobe, and a vertebra with its shadow."""
    x, y = tissue.place_mm, tissue.depth_mm
    bottom = lobe.place_mm[1] + lobe.half_mm[1]
    place = (lobe.place_mm[0] - random.uniform(0, 3), bottom + 3.2)
    inside = ellipse_mm(tissue, place, (random.uniform(7, 9), 2.6))
    tissue.paint(_soft(inside), MUSCLE_DB - 3 + 3 * _texture(random, tissue.echo_db.shape, (0.25, 1.5)))
    _line(tissue, inside, np.where(y < place[1], FASCIA_DB - 8, FASCIA_DB - 20), 0.15)
    bone = y - (bottom + 6.4 + 0.015 * (x - place[0]) ** 2 + 0.35 * _waves(random, 1, len(x))[0])
    tissue.paint(_soft(bone), BLOOD_DB + 12, BONE_LOSS)
    _line(tissue, bone, BONE_DB, 0.25)


def _soft(distance_mm: np.ndarray, width_mm: float = 0.25) -> np.ndarray:
    """0 outside, 1 inside a border that is ``width_mm`` wide."""
    return np.clip(distance_mm / width_mm + 0.5, 0, 1)


def _line(tissue: Tissue, distance_mm: np.ndarray, echo_db: float | np.ndarray, width_mm: float) -> None:
    """A bright line where the distance is 0; nothing gets darker."""
    fallen = echo_db - 12 * (distance_mm / width_mm) ** 2
    tissue.echo_db = np.maximum(tissue.echo_db, fallen)


def _waves(random: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Smooth curves of standard deviation 1."""
    waves = gaussian_filter1d(random.normal(size=(count, size + 400)), 60, axis=1)[:, 200:-200]
    return (waves - waves.mean(1, keepdims=True)) / (waves.std(1, keepdims=True) + 1e-9)


def _texture(random: np.random.Generator, shape: tuple[int, int], size_mm: tuple[float, float]) -> np.ndarray:
    """Texture with grains of this size in depth and along the probe."""
    return texture(random, shape, (size_mm[0] / PIXEL_MM, size_mm[1] / PIXEL_MM))
