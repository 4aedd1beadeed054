"""Synthetic echocardiograms with known ejection fractions, written as an EchoNet-Dynamic data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.common.data_folder import new_data_folder
from custom_apps.common.table import write_csv
from custom_apps.echo.echonet import FILE_LIST, FRAME_SIZE, TRACING_COLUMNS, TRACINGS, VIDEOS
from custom_apps.echo.phantom_frames import View, render
from custom_apps.echo.phantom_ventricle import Ventricle, beating_ventricle
from custom_apps.echo.video_writing import write_video

NAME = "PhantomEchoNet"
COLUMNS = ("FileName", "EF", "ESV", "EDV", "FrameHeight", "FrameWidth", "FPS", "NumberOfFrames", "Split")
EF_RANGE_PERCENT = (20.0, 75.0)
FPS = (50.0, 50.0, 50.0, 46.0, 54.0)


def write_echonet_phantom(
    folder: str | Path,
    cases: int = 40,
    test_cases: int = 16,
    seed: int = 0,
    frames: tuple[int, int] = (70, 150),
    size: int = FRAME_SIZE,
) -> Path:
    """Writes ``folder/PhantomEchoNet``: videos, list and tracings of beating hearts in an apical four-chamber view.

    Ejection fractions are spread evenly over 20 to 75 %, and are those of the shapes drawn in the two traced frames, by
    the method of discs. Gain, depth, noise, heart rate, position and size differ from case to case.

    Args:
        folder: the data set's folder is made in it.
        cases: labeled videos; every fifth of them is for validation, at least one, the others for training.
        test_cases: held-out videos.
        seed: same seed, same data set.
        frames: least and greatest number of frames; one to three heart beats at about 50 frames a second.
        size: edge of the frames in pixels.

    Returns:
        The data set's folder.

    Raises:
        DataError: if it exists already.
    """
    if cases < 2:
        raise ValueError(f"at least two labeled cases are needed, one to train and one to validate, got {cases}")
    root = new_data_folder(folder, NAME)
    listed, traced = [], []
    for part, count in (("tr", cases), ("ts", test_cases)):
        order = np.random.default_rng([seed, part == "ts"])
        for number, ef_percent in enumerate(spread_ef(order, count)):
            random = np.random.default_rng([seed, part == "ts", number])
            name, fps = f"phantom_{part}_{number:03d}", float(random.choice(FPS))
            ventricle, video = echo_case(random, ef_percent, int(random.integers(*frames, endpoint=True)), fps, size)
            write_video(video, root / VIDEOS / f"{name}.avi", fps)
            validation = number % 5 == 4 or (cases < 5 and number == cases - 1)
            split = "TEST" if part == "ts" else "VAL" if validation else "TRAIN"
            listed.append(_listed(name, ventricle, fps, video.shape, split))
            traced += _traced(name, ventricle)
    write_csv(traced, root / TRACINGS, TRACING_COLUMNS)
    # Last, so that it marks a complete data set.
    write_csv(listed, root / FILE_LIST, COLUMNS)
    return root


def echo_case(
    random: np.random.Generator, ef_percent: float, frames: int, fps: float, size: int, phase: float | None = None
) -> tuple[Ventricle, np.ndarray]:
    """One heart with about this ejection fraction, and its video, uint8 (frames, size, size)."""
    ventricle = beating_ventricle(random, ef_percent, frames, fps, size, phase)
    return ventricle, render(ventricle, View.drawn(random, size), random, size)


def true_ef_percent(ventricle: Ventricle) -> float:
    """Ejection fraction of the shapes in the two traced frames, by the method of discs."""
    pair = ventricle.traced_pair()
    full, empty = (ventricle.volume_ml(tracing.frame) for tracing in pair)
    return 100 * (full - empty) / full


def spread_ef(random: np.random.Generator, count: int) -> np.ndarray:
    """``count`` ejection fractions in percent, one in each equal part of the range, in random order."""
    low, high = EF_RANGE_PERCENT
    places = (np.arange(count) + random.uniform(size=count)) / max(count, 1)
    return low + (high - low) * random.permutation(places)


def _listed(name: str, ventricle: Ventricle, fps: float, shape: tuple[int, ...], split: str) -> dict[str, Any]:
    full, empty = (ventricle.volume_ml(tracing.frame) for tracing in ventricle.traced_pair())
    ef_percent = round(true_ef_percent(ventricle), 4)
    values = (name, ef_percent, round(empty, 3), round(full, 3), *shape[1:], fps, shape[0], split)
    return dict(zip(COLUMNS, values, strict=True))


def _traced(name: str, ventricle: Ventricle) -> list[dict[str, Any]]:
    """Rows of the tracings: end-systole before end-diastole, each with its long axis first."""
    return [
        dict(zip(TRACING_COLUMNS, (f"{name}.avi", *row, tracing.frame), strict=True))
        for tracing in reversed(ventricle.traced_pair())
        for row in np.round(tracing.rows.astype(float), 4).tolist()
    ]
