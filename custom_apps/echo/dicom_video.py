"""Multi-frame DICOM ultrasound: pixels in 8 bits, and the frame rate from the tags that vendors use."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from custom_apps.common.dicom_pixels import read_dicom_pixels
from custom_apps.common.errors import DataError
from custom_apps.echo.video_file import Video

if TYPE_CHECKING:
    from pydicom import Dataset

LUMA = np.array([0.2989, 0.587, 0.114], np.float32)


def read_dicom_video(path: str | Path, gray: bool = False) -> Video:
    """Decodes a multi-frame DICOM file, see :func:`custom_apps.common.dicom_pixels.read_dicom_pixels`.

    Args:
        path: the file.
        gray: luma instead of RGB.

    Raises:
        DataError: not DICOM, a single image, pixels that do not decode, or pydicom not installed.
    """
    pixels, dataset = read_dicom_pixels(path)
    if len(pixels) == 1:
        raise DataError(path, "a single image", "a multi-frame DICOM file")
    if pixels.ndim == 4:
        frames = np.rint(pixels @ LUMA).clip(0, 255).astype(np.uint8) if gray else pixels
    else:
        frames = pixels if gray else np.repeat(pixels[..., None], 3, axis=-1)
    return Video(np.ascontiguousarray(frames), frame_rate(dataset))


def frame_rate(dataset: Dataset) -> float:
    """Frames per second from frame time (ms), frame time vector, cine rate or recommended display rate; NaN if none."""
    if time_ms := _number(dataset.get("FrameTime")):
        return 1000 / time_ms
    if vector := dataset.get("FrameTimeVector"):
        # Its first entry belongs to the first frame, which follows nothing.
        steps = [float(step) for step in (vector if hasattr(vector, "__len__") else [vector])][1:]
        if steps and sum(steps) > 0:
            return 1000 * len(steps) / sum(steps)
    for tag in ("CineRate", "RecommendedDisplayFrameRate"):
        if rate := _number(dataset.get(tag)):
            return rate
    return math.nan


def _number(value: Any) -> float | None:
    """A positive number, or None."""
    return float(value) if value not in (None, "") and float(value) > 0 else None
