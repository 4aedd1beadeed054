"""Smooth random values, from which tissue of the phantom gets its grain."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

FINE = 2.5
"""Least width of a grain in steps of the grid that it is drawn on."""


def texture(random: np.random.Generator, shape: tuple[int, int], grain: tuple[float, float]) -> np.ndarray:
    """Smooth random values of mean 0 and standard deviation 1, float32.

    Coarse grains are drawn on a coarse grid and interpolated, which takes a tenth of the time.

    Args:
        random: source of the values.
        shape: of the result.
        grain: standard deviation of a grain along both axes, in pixels.
    """
    steps = [max(1, int(width / FINE)) for width in grain]
    sizes = [-(-edge // step) + 1 for edge, step in zip(shape, steps, strict=True)]
    values = random.standard_normal(sizes, np.float32)
    values = gaussian_filter(values, [width / step for width, step in zip(grain, steps, strict=True)], truncate=3)
    for axis, (edge, step) in enumerate(zip(shape, steps, strict=True)):
        if step > 1:
            places = np.arange(edge, dtype=np.float32) / step
            first = places.astype(int)
            share = (places - first).reshape((-1, 1) if axis == 0 else (1, -1))
            values = np.take(values, first, axis) * (1 - share) + np.take(values, first + 1, axis) * share
    values = values[: shape[0], : shape[1]]
    return (values - values.mean()) / values.std()
