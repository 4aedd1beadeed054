import numpy as np
import pytest

from custom_apps.common.random_box import random_box


def test_boxes_are_within_the_image_and_the_ranges():
    random = np.random.RandomState(0)
    boxes = np.array([random_box(random, (200, 300), (0.1, 0.5), (0.5, 2.0)) for _ in range(500)])
    top, left, height, width = boxes.T
    assert top.min() >= 0
    assert left.min() >= 0
    assert (top + height).max() <= 200
    assert (left + width).max() <= 300
    share, ratio = height * width / 60000, width / height
    assert 0.09 < share.min() < 0.13
    assert 0.45 < share.max() < 0.51
    assert 0.48 < ratio.min() < 0.6
    assert 1.7 < ratio.max() < 2.05
    # As many boxes are wide as are tall.
    assert np.mean(ratio > 1) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize(
    ("size", "box"), [((10, 400), (0, 193, 10, 13)), ((400, 10), (193, 0, 13, 10)), ((1, 1), (0, 0, 1, 1))]
)
def test_largest_box_in_the_middle_where_none_fits(size, box):
    assert random_box(np.random.RandomState(0), size, (1.0, 1.0), (3 / 4, 4 / 3)) == box
