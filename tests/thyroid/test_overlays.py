import numpy as np
from PIL import Image

from custom_apps.thyroid.overlays import PREDICTION, TRUTH, outline_of, with_outlines


def test_outline_is_inside_and_closed_at_the_edge():
    mask = np.zeros((7, 9), bool)
    mask[2:7, 3:8] = True
    outline = outline_of(mask)
    assert not (outline & ~mask).any()
    inner = np.zeros_like(mask)
    inner[3:6, 4:7] = True
    assert np.array_equal(outline, mask & ~inner)


def test_prediction_lies_over_the_truth():
    image = np.full((20, 30), 77, np.uint8)
    mask = np.zeros((20, 30), bool)
    mask[5:15, 5:15] = True
    picture = with_outlines(image, mask, np.roll(mask, 10, 1), width=1)
    assert tuple(picture[5, 5]) == PREDICTION
    assert tuple(picture[5, 24]) == TRUTH
    assert tuple(picture[0, 0]) == (77, 77, 77)
    assert picture.dtype == np.uint8
    Image.fromarray(picture)


def test_nothing_found_leaves_the_image():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(with_outlines(image, np.zeros((3, 4), bool))[..., 0], image)
