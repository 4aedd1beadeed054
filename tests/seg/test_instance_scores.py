import math

import numpy as np
import pytest

from custom_apps.seg.instance_metrics import InstanceScore
from custom_apps.seg.instance_scores import component_score, identification_accuracy, instance_f1


def boxes(*corners, shape=(12, 16, 16), edge=4):
    mask = np.zeros(shape, bool)
    for corner in corners:
        mask[tuple(slice(c, c + edge) for c in corner)] = True
    return mask


REFERENCE = boxes((0, 0, 0), (0, 6, 0), (6, 6, 6))


def test_components_are_matched_by_overlap():
    # One found exactly, one shifted by half its edge (IoU 1/3), one missed, one invented.
    prediction = boxes((0, 0, 0), (0, 8, 0), (6, 0, 12))
    score = component_score(prediction, REFERENCE)
    assert (score.tp, score.fp, score.fn) == (1, 2, 2)
    assert instance_f1(score, "nnunet") == pytest.approx(2 / 6)
    assert identification_accuracy(score, "nnunet") == pytest.approx(1 / 3)
    assert component_score(prediction, REFERENCE, 0.3).tp == 2


def test_overlap_of_exactly_one_half_is_a_match():
    reference = boxes((0, 0, 0))
    prediction = reference.copy()
    prediction[2:4, :4, :4] = False
    assert component_score(prediction, reference).tp == 1
    prediction[1, 0, 0] = False
    assert component_score(prediction, reference).tp == 0


def test_diagonal_neighbors_belong_together():
    mask = np.zeros((3, 3, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    score = component_score(mask, mask)
    assert (score.tp, score.fp, score.fn) == (1, 0, 0)


@pytest.mark.parametrize(
    ("score", "convention", "f1", "identified"),
    [
        (InstanceScore(0, 0, 0), "nnunet", math.nan, math.nan),
        (InstanceScore(0, 0, 0), "challenge", 1.0, 1.0),
        (InstanceScore(0, 2, 0), "nnunet", 0.0, math.nan),
        (InstanceScore(0, 2, 0), "challenge", 0.0, 0.0),
        (InstanceScore(0, 0, 2), "nnunet", 0.0, 0.0),
        (InstanceScore(0, 0, 2), "challenge", 0.0, 0.0),
    ],
)
def test_empty_masks(score, convention, f1, identified):
    np.testing.assert_equal(instance_f1(score, convention), f1)
    np.testing.assert_equal(identification_accuracy(score, convention), identified)


def test_empty_masks_have_no_components():
    nothing = np.zeros((4, 4, 4), bool)
    assert component_score(nothing, nothing) == InstanceScore(0, 0, 0)
    assert component_score(nothing, boxes((0, 0, 0), shape=(4, 4, 4))) == InstanceScore(0, 0, 1)
