"""Random boxes within an image, as random resized crops and erasing need them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

TRIES = 10


def random_box(
    random: np.random.RandomState, size: Sequence[int], area: Sequence[float], ratio: Sequence[float]
) -> tuple[int, int, int, int]:
    """Draws top, left, height and width of a box within an image.

    When ten draws do not fit into the image, the largest box in its middle within ``ratio`` is taken.

    Args:
        random: source of the draws.
        size: height and width of the image.
        area: range of the box's share of the image.
        ratio: range of width over height, drawn uniformly in its logarithm.

    Source: random resized crop as of the Inception networks (Szegedy et al. 2015).
    """
    height, width = size
    for _ in range(TRIES):
        wanted = height * width * random.uniform(*area)
        shape = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        box_height, box_width = round(math.sqrt(wanted / shape)), round(math.sqrt(wanted * shape))
        if 0 < box_height <= height and 0 < box_width <= width:
            return random.randint(height - box_height + 1), random.randint(width - box_width + 1), box_height, box_width
    box_height = min(height, round(width / ratio[0]))
    box_width = min(width, round(height * ratio[1]))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width
