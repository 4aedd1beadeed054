"""Traced outlines of the left ventricle: rows of chords, their polygon, mask, area and long axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Tracing:
    """The outline of the left ventricle in one frame.

    Attributes:
        frame: number of the frame in the video, from 0.
        rows: (rows, 4) as x1, y1, x2, y2 in pixels: the long axis, then chords from apex to mitral valve.
    """

    frame: int
    rows: np.ndarray


class TracedPair(NamedTuple):
    """The two traced frames of a video."""

    end_diastole: Tracing
    end_systole: Tracing


def outline(rows: np.ndarray) -> np.ndarray:
    """Polygon of a tracing: down one side of the chords and up the other, without the long axis.

    Args:
        rows: (rows, 4), the long axis first.

    Returns:
        (2 · chords, 2) as x, y in pixels.
    """
    chords = np.asarray(rows, np.float64)[1:]
    return np.concatenate([chords[:, :2], chords[::-1, 2:]])


def lv_mask(rows: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Mask of a tracing, as EchoNet-Dynamic draws it: corners rounded to whole pixels, border included.

    Args:
        rows: (rows, 4), the long axis first.
        size: height and width of the frame.

    Returns:
        uint8 (height, width), 1 inside.

    Source: EchoNet-Dynamic, Ouyang et al. 2020, where scikit-image draws the polygon; pixels are the same.
    """
    return fill_polygon(np.rint(outline(rows)).astype(np.int64), size)


def fill_polygon(corners: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Pixels whose center lies in a polygon with whole-numbered corners, or on its border.

    Counts, for each pixel, the edges that a ray to the right and one to the left cross: an odd number to the right is
    inside, unequal parities are on an edge. In whole numbers this is exact.

    Args:
        corners: int64 (n, 2) as x, y; may lie outside the frame, edges may cross (even-odd rule).
        size: height and width.

    Returns:
        uint8 (height, width).

    Source: the crossing test of O'Rourke, Computational Geometry in C, 1998, as in scikit-image's ``draw.polygon``.
    """
    height, width = size
    mask = np.zeros((height, width), np.uint8)
    low = np.maximum(corners.min(0), 0)
    high = np.minimum(corners.max(0), (width - 1, height - 1))
    if (low > high).any():
        return mask
    x, y = np.arange(low[0], high[0] + 1)[None, :, None], np.arange(low[1], high[1] + 1)[:, None, None]
    # Corners relative to each pixel: (rows, columns, edges).
    x0, y0 = corners[:, 0] - x, corners[:, 1] - y
    x1, y1 = np.roll(corners[:, 0], 1) - x, np.roll(corners[:, 1], 1) - y
    # Sign of the place where the edge crosses the pixel's row, without the division.
    side = np.sign(x0 * y1 - x1 * y0) * np.sign(y1 - y0)
    right = (((y0 > 0) != (y1 > 0)) & (side > 0)).sum(-1) % 2
    left = (((y0 < 0) != (y1 < 0)) & (side < 0)).sum(-1) % 2
    corner = ((x0 == 0) & (y0 == 0)).any(-1)
    mask[low[1] : high[1] + 1, low[0] : high[0] + 1] = corner | (right != left) | (right == 1)
    return mask


def lv_area(rows: np.ndarray) -> float:
    """Area of a tracing's polygon in square pixels, of the corners as traced (not rounded)."""
    x, y = outline(rows).T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def long_axis_length(rows: np.ndarray) -> float:
    """Length in pixels from apex to mitral plane, the first row of a tracing."""
    x1, y1, x2, y2 = np.asarray(rows, np.float64)[0]
    return float(np.hypot(x2 - x1, y2 - y1))


def crosses_itself(rows: np.ndarray) -> bool:
    """Whether two edges of a tracing's polygon cross, which leaves holes in its mask."""
    start = outline(rows)
    start = start[(start != np.roll(start, 1, axis=0)).any(1)]
    edge = np.roll(start, -1, axis=0) - start
    between = start[None] - start[:, None]
    cross = edge[:, None, 0] * edge[None, :, 1] - edge[:, None, 1] * edge[None, :, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        along = (between[..., 0] * edge[None, :, 1] - between[..., 1] * edge[None, :, 0]) / cross
        across = (between[..., 0] * edge[:, None, 1] - between[..., 1] * edge[:, None, 0]) / cross
    # Neighbors share a corner, at exactly 0 or 1, which does not count.
    return bool(((along > 1e-9) & (along < 1 - 1e-9) & (across > 1e-9) & (across < 1 - 1e-9)).any())
