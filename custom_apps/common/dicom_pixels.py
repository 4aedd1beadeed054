"""DICOM images and videos as 8-bit gray or color."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from custom_apps.common.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset


def read_dicom_pixels(path: str | Path) -> tuple[np.ndarray, Dataset]:
    """Decodes all frames of a DICOM file.

    Color (RGB, YBR in its variants, palette) becomes RGB; monochrome values become 8-bit gray, by the file's own window
    where it has one and otherwise by the range that its bits can hold, ``MONOCHROME1`` inverted.

    Args:
        path: the file.

    Returns:
        uint8 (F, H, W) or (F, H, W, 3), also for a single frame, and what else the file says.

    Raises:
        DataError: not DICOM, pixels that do not decode, or pydicom not installed.
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
    if pixels.ndim == (3 if color else 2):
        pixels = pixels[None]
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels, color = apply_color_lut(pixels, dataset), True
    pixels = _eight_bits(pixels) if color else _monochrome(pixels, dataset)
    return np.ascontiguousarray(pixels), dataset


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
