"""Resizing of 8-bit images by the libraries' rules that published results depend on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def size_of(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width from one number or two."""
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ValueError(f"a size must be at least 1, got {size}")
    return int(height), int(width)


def to_pillow(image: np.ndarray) -> Image.Image:
    """Gray or RGB from uint8 (1, H, W) or (3, H, W)."""
    array = np.asarray(image)
    return Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))


def from_pillow(image: Image.Image) -> np.ndarray:
    """The way back."""
    array = np.array(image)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def resize_smooth(image: np.ndarray, size: Sequence[int], interpolation: str = "bicubic") -> np.ndarray:
    """Resizes with anti-aliasing, as Pillow does.

    Args:
        image: uint8 (C, H, W).
        size: height and width of the result.
        interpolation: ``bilinear`` or ``bicubic``.
    """
    return from_pillow(to_pillow(image).resize((size[1], size[0]), PILLOW[interpolation]))


def resize_linear(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Bilinear without anti-aliasing, uint8 (C, H, W); OpenCV's result up to one gray level."""
    values = torch.from_numpy(np.array(image, np.float32))[None]
    resized = F.interpolate(values, tuple(size), mode="bilinear", align_corners=False)[0]
    return resized.numpy().round().clip(0, 255).astype(np.uint8)


def resize_nearest(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Nearest neighbor to the upper left, as in OpenCV: (C, H, W) of any type."""
    rows, columns = (
        np.minimum((np.arange(new) * (old / new)).astype(np.int64), old - 1)
        for new, old in zip(size, image.shape[-2:], strict=True)
    )
    return np.asarray(image)[:, rows[:, None], columns]
