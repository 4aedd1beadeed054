import numpy as np
import pytest

from custom_apps.seg.instance_metrics import (
    InstanceScore,
    instances_of,
    match_instances,
    score_instances,
    without_boundary_instances,
)


def squares(places, shape=(30, 40), edge=5):
    image = np.zeros(shape, np.int32)
    for number, (row, column) in enumerate(places, 1):
        image[row : row + edge, column : column + edge] = number
    return image


def test_diagonal_neighbours_are_one_instance():
    semantic = np.array([[1, 0, 0], [0, 1, 0], [2, 0, 1]])
    assert instances_of(semantic).max() == 1
    assert np.array_equal(instances_of(semantic, 2) > 0, semantic == 2)


def test_instances_at_the_border_are_removed_and_the_rest_renumbered():
    image = squares([(0, 0), (10, 10), (1, 20), (20, 30), (25, 3), (2, 34)])
    kept = without_boundary_instances(image)
    assert set(np.unique(kept)) == {0, 1, 2}
    assert np.array_equal(kept > 0, np.isin(image, [2, 4]))
    assert kept.dtype == np.int32
    assert without_boundary_instances(np.ones((3, 3), int)).max() == 0
    assert without_boundary_instances(np.zeros((0, 4), int)).shape == (0, 4)


def test_matching_is_one_to_one():
    reference = squares([(5, 5), (15, 15)])
    assert match_instances(reference, reference) == InstanceScore(2, 0, 0)
    merged = (reference > 0).astype(int)
    assert match_instances(merged, reference) == InstanceScore(1, 0, 1)
    assert match_instances(reference, merged) == InstanceScore(1, 1, 0)


def test_the_threshold_decides():
    reference = squares([(5, 5)], edge=10)
    shifted = np.roll(reference, 2, 1)  # IoU 80 / 120
    assert match_instances(shifted, reference, 0.66).tp == 1
    assert match_instances(shifted, reference, 0.67).tp == 0


def test_numbers_with_gaps_are_no_instances():
    reference = squares([(5, 5), (15, 15)])
    assert match_instances(reference * 7, reference) == InstanceScore(2, 0, 0)


def test_empty_sides():
    empty, one = np.zeros((9, 9), int), squares([(3, 3)], (12, 12), 4)[:9, :9]
    assert match_instances(empty, one) == InstanceScore(0, 0, 1)
    assert match_instances(one, empty) == InstanceScore(0, 1, 0)
    assert match_instances(empty, empty) == InstanceScore(0, 0, 0)
    assert match_instances(empty, empty).f1 == 0


def test_precision_recall_f1():
    score = InstanceScore(3, 1, 2)
    assert (score.precision, score.recall) == (0.75, 0.6)
    assert score.f1 == pytest.approx(2 * 0.75 * 0.6 / 1.35)


def test_a_large_image_is_scored_tile_by_tile():
    """With tiles of 20 the middle square touches a tile border and is not counted; the others are inside."""
    image = squares([(5, 5), (17, 25), (22, 33)])
    whole = score_instances(image, image, large_image_pixels=image.size + 1, tile_pixels=20)
    tiled = score_instances(image, image, large_image_pixels=image.size, tile_pixels=20)
    assert (whole.tp, tiled.tp) == (3, 2)
    assert score_instances(image, image, count_boundary=True).tp == 3
    counted = score_instances(image, image, 0.5, True, 2, image.size, 20)
    assert score_instances(image, image, boundary_width=6).tp == 1
    assert counted == InstanceScore(4, 0, 0), "an instance cut by a tile border counts in each tile"


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one shape"):
        score_instances(np.zeros((4, 4), int), np.zeros((4, 5), int))
