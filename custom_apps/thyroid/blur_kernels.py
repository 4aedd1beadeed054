"""Kernels of the blurs that Deblurring MAE and its readers use, as whole numbers where the published ones are."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

DEFOCUS_SIZE, DEFOCUS_RADIUS, MOTION_SIZE = 17, 5, 5


def gaussian_taps(sigma: float) -> np.ndarray:
    """Taps of a Gaussian in units of 1/256, int64 (k,), whose sum is 256.

    The kernel has ``k = round(6 sigma + 1)`` taps, made odd upwards. Rounding errors are carried on from the outside to
    the middle, which takes what is left.

    Args:
        sigma: standard deviation in pixels.

    Raises:
        ValueError: ``sigma`` not above 0.

    Source: fixed-point Gaussian of 8-bit images in OpenCV, as used by Deblurring MAE (Kang et al. 2023).
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0, got {sigma}")
    size = round(6 * sigma + 1) | 1
    places = np.arange(size) - size // 2
    real = np.exp(-(places**2) / (2 * sigma**2))
    real *= 256 / real.sum()
    taps, carried = np.zeros(size, np.int64), 0.0
    for place in range(size // 2):
        wanted = real[place] + carried
        taps[place] = taps[-1 - place] = np.rint(wanted)
        carried = wanted - taps[place]
    taps[size // 2] = 256 - taps.sum()
    return taps


def defocus_kernel() -> np.ndarray:
    """A disk of radius 5 in a kernel (17, 17), float64, of sum 1."""
    offset = np.arange(DEFOCUS_SIZE) - DEFOCUS_SIZE // 2
    disk = (offset[:, None] ** 2 + offset**2 <= DEFOCUS_RADIUS**2).astype(np.float64)
    return disk / disk.sum()


def motion_kernel(random: np.random.RandomState) -> np.ndarray:
    """A straight line between two random pixels of a kernel (5, 5), float64, of sum 1; it need not be centered.

    Args:
        random: source of both ends; two ends in one column are in different rows, so that something is blurred.
    """
    size = MOTION_SIZE
    columns = random.randint(size, size=2)
    rows = random.permutation(size)[:2] if columns[0] == columns[1] else random.randint(size, size=2)
    canvas = Image.new("L", (size, size))
    ImageDraw.Draw(canvas).line([(int(columns[0]), int(rows[0])), (int(columns[1]), int(rows[1]))], fill=1)
    line = np.asarray(canvas, np.float64)
    return line / line.sum()
