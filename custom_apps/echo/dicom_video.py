"""Multi-frame DICOM ultrasound: pixels in 8 bits, and the frame rate from the tags that vendors use."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from custom_apps.common.errors import DataError
from custom_apps.echo.video_file import Video

if TYPE_CHECKING:
    from pydicom import Dataset

LUMA = np.array([0.2989, 0.587, 0.114], np.float32)


def read_dicom_video(path: str | Path, gray: bool = False) -> Video:
    """Decodes a multi-frame DICOM file.

    Color (RGB, YBR in its variants, palette) becomes RGB; monochrome values become 8-bit gray, by the file's own window
    where it has one and otherwise by the range that its bits can hold, ``MONOCHROME1`` inverted.

    Args:
        path: the file.
        gray: luma instead of RGB.

    Raises:
        DataError: not DICOM, a single image, pixels that do not decode, or pydicom not installed.
    """
    path = Path(path)
    try:
        import pydicom
    except ImportError as error:
        raise DataError(path, "DICOM cannot be read without pydicom", "pip install 'mamba-bundles[dicom]'") from error
    from pydicom.pixels import apply_color_lut, pixel_array

    try:
        dataset = pydicom.dcmread(path)
        # Color spaces of the YBR family are converted to RGB here.
        pixels = pixel_array(dataset)
    except Exception as error:  # pydicom and its decoders raise all kinds of errors on damaged files
        raise DataError(
            path, f"does not decode as DICOM ({type(error).__name__}: {error})", "an undamaged file"
        ) from error
    color = dataset.get("SamplesPerPixel", 1) == 3
    if pixels.ndim != (4 if color else 3):
        raise DataError(path, "a single image", "a multi-frame DICOM file")
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels, color = apply_color_lut(pixels, dataset), True
    if color:
        pixels = _eight_bits(pixels)
        frames = np.rint(pixels @ LUMA).clip(0, 255).astype(np.uint8) if gray else pixels
    else:
        frames = _monochrome(pixels, dataset)
        frames = frames if gray else np.repeat(frames[..., None], 3, axis=-1)
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


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8 * (pixels.dtype.itemsize - 1)).astype(np.uint8)


def _monochrome(pixels: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Gray values in 8 bits."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    span = 2.0**dataset.BitsStored
    low, high = (-span / 2, span / 2 - 1) if dataset.PixelRepresentation else (0.0, span - 1)
    if "WindowWidth" in dataset:
        # What the window maps to is the range of the stored bits, rescaled.
        slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
        low, high = low * slope + intercept, high * slope + intercept
        pixels = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset, prefer_lut=False)
    gray = np.clip((pixels.astype(np.float32) - low) / (high - low), 0, 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        gray = 1 - gray
    return np.rint(gray * 255).astype(np.uint8)
