"""Contrast-limited adaptive histogram equalization of 8-bit images."""

from __future__ import annotations

import numpy as np

LEVELS = 256


def equalize_locally(image: np.ndarray, clip_limit: float = 2.0, tiles: int = 8) -> np.ndarray:
    """Equalizes the histogram of each tile, with limited slope, and blends neighboring tiles.

    Args:
        image: uint8 (H, W).
        clip_limit: largest count of a gray level, as a multiple of the mean count; more is spread over all levels.
        tiles: along each axis.

    Returns:
        uint8 (H, W).

    Source: Zuiderveld 1994 (Graphics Gems IV), with the rules of OpenCV for borders, clipping and rounding.
    """
    height, width = image.shape
    extra = [(0, -side % tiles) for side in image.shape]
    # Reflection needs more than one pixel.
    mode = "reflect" if min(image.shape) > tiles else "edge"
    whole = np.pad(image, extra, mode=mode) if any(after for _, after in extra) else image
    tile_height, tile_width = whole.shape[0] // tiles, whole.shape[1] // tiles
    area = tile_height * tile_width
    blocks = whole.reshape(tiles, tile_height, tiles, tile_width).transpose(0, 2, 1, 3).reshape(tiles**2, area)
    limit = max(int(clip_limit * area / LEVELS), 1)
    tables = np.stack([_table(np.bincount(block, minlength=LEVELS), limit, area) for block in blocks])
    tables = tables.reshape(tiles, tiles, LEVELS).astype(np.float32)

    upper, lower, down = _neighbors(height, tile_height, tiles)
    left, right, across = _neighbors(width, tile_width, tiles)
    rows = [tables[row[:, None], column[None], image] for row in (upper, lower) for column in (left, right)]
    top = rows[0] + (rows[1] - rows[0]) * across
    bottom = rows[2] + (rows[3] - rows[2]) * across
    return np.rint(top + (bottom - top) * down[:, None]).clip(0, 255).astype(np.uint8)


def _table(counts: np.ndarray, limit: int, area: int) -> np.ndarray:
    """New value of each gray level in one tile."""
    spare = int(np.maximum(counts - limit, 0).sum())
    counts = np.minimum(counts, limit) + spare // LEVELS
    if rest := spare % LEVELS:
        step = max(LEVELS // rest, 1)
        counts[np.arange(rest) * step] += 1
    return np.rint(np.cumsum(counts) * ((LEVELS - 1) / area)).clip(0, LEVELS - 1)


def _neighbors(size: int, tile: int, tiles: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tiles before and after the middle of each pixel, and the share of the latter."""
    places = np.arange(size) / tile - 0.5
    first = np.floor(places).astype(int)
    share = (places - first).astype(np.float32)
    return np.clip(first, 0, tiles - 1), np.clip(first + 1, 0, tiles - 1), share
