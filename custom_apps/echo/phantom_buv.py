"""Synthetic breast ultrasound videos with benign and malignant lesions, written in the layout of MICCAI-BUV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from custom_apps.common.data_folder import new_data_folder
from custom_apps.common.partial_file import write_text
from custom_apps.echo.buv import TRAINING_LIST, VALIDATION_LIST, VIDEOS
from custom_apps.echo.video_writing import write_video

NAME = "PhantomBUV"
CLASSES = ("benign", "malignant")
FPS, SIZE = 25.0, 224
# Echo strength in decibels below white.
FAT_DB, GLAND_DB, MUSCLE_DB, LESION_DB, SKIN_DB = -21.0, -13.0, -20.0, -33.0, -4.0
RANGE_DB = 42.0


def write_buv_phantom(
    folder: str | Path, cases: int = 12, test_cases: int = 6, seed: int = 0, frames: tuple[int, int] = (40, 90)
) -> Path:
    """Writes ``folder/PhantomBUV``: ``mp4_224_224``, ``trainlist01.txt`` and ``testlist01.txt``.

    Benign lesions are oval, smooth and wider than tall, with brighter tissue behind them; malignant ones are jagged,
    taller than wide and cast a shadow.

    Args:
        folder: the data set's folder is made in it.
        cases: videos to train with, benign and malignant in turn.
        test_cases: videos to validate with.
        seed: same seed, same data set.
        frames: least and greatest number of frames.

    Returns:
        The data set's folder.

    Raises:
        DataError: if it exists already.
    """
    root = new_data_folder(folder, NAME)
    lists: dict[str, list[str]] = {TRAINING_LIST: [], VALIDATION_LIST: []}
    for number in range(cases + test_cases):
        random, label = np.random.default_rng([seed, number]), number % 2
        name = f"{CLASSES[label]}/phantom_{number:03d}.mp4"
        video = breast_case(random, bool(label), int(random.integers(*frames, endpoint=True)))
        write_video(video, root / VIDEOS / name, FPS)
        lists[TRAINING_LIST if number < cases else VALIDATION_LIST].append(f"{name} {label}\n")
    for name, lines in lists.items():
        write_text("".join(lines), root / name)
    return root


def breast_case(random: np.random.Generator, malignant: bool, frames: int, size: int = SIZE) -> np.ndarray:
    """A video of one lesion while the probe moves a little, uint8 (frames, size, size)."""
    margin = size // 8
    edge = size + 2 * margin
    strength = _tissue(random, malignant, edge)
    speckle = gaussian_filter(random.normal(size=(2, edge, edge)), (0, 0.8, 1.4))
    power = (speckle**2).sum(0) / (speckle**2).sum(0).mean()
    path = np.cumsum(random.normal(0, 0.5, (frames, 2)), axis=0) + 4 * np.sin(np.arange(frames) / 9)[:, None]
    path = np.rint(np.clip(path - path[0], -margin, margin)).astype(int) + margin
    still = 10 * np.log10(power + 1e-6) + strength
    gain_db = random.normal(0, 2)
    video = np.empty((frames, size, size), np.uint8)
    for number, (top, left) in enumerate(path):
        noise = random.normal(0, 1.2, (size, size))
        shown = 1 + (still[top : top + size, left : left + size] + noise + gain_db) / RANGE_DB
        video[number] = np.clip(255 * gaussian_filter(np.clip(shown, 0, 1), 0.7), 0, 255)
    return video


def _tissue(random: np.random.Generator, malignant: bool, edge: int) -> np.ndarray:
    """Echo strength in dB (edge, edge): skin, fat, gland and muscle in wavy layers, the lesion, what is behind it."""
    y, x = np.mgrid[:edge, :edge] / edge
    waves = gaussian_filter(random.normal(size=(3, edge)), (0, edge / 10))
    waves = 0.03 * waves / waves.std(axis=1, keepdims=True)
    bounds = np.array([0.13, 0.33, 0.78])[:, None] + waves
    strength = np.full((edge, edge), SKIN_DB)
    for bound, decibels in zip(bounds, (FAT_DB, GLAND_DB, MUSCLE_DB), strict=True):
        strength = np.where(y > bound[None], decibels, strength)
    texture = gaussian_filter(random.normal(size=(edge, edge)), (edge / 60, edge / 25))
    strength = strength + 3 * texture / texture.std()

    center_y, center_x = random.uniform(0.46, 0.56), random.uniform(0.42, 0.58)
    area = random.uniform(0.10, 0.14)
    ratio = random.uniform(0.80, 0.95) if malignant else random.uniform(1.4, 1.9)
    angle = np.arctan2((y - center_y) * ratio, x - center_x)
    radius = np.hypot((x - center_x) / np.sqrt(ratio), (y - center_y) * np.sqrt(ratio)) / area
    border = 1 + sum(
        (0.16 if malignant else 0.03) * random.normal() / np.sqrt(wave) * np.cos(wave * angle + random.uniform(0, 6.3))
        for wave in (range(3, 14) if malignant else range(2, 4))
    )
    inside = np.clip((border - radius) * (8 if malignant else 16) + 0.5, 0, 1)
    behind = np.exp(-(((x - center_x) / (0.8 * area * np.sqrt(ratio))) ** 4)) * np.clip((y - center_y) / area, 0, 1)
    strength = strength + (-13 if malignant else 6) * behind
    return gaussian_filter(strength + (LESION_DB - strength) * inside - 8 * np.clip(y - 0.6, 0, None), 0.8)
