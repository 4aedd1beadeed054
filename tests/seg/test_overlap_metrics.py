import math

import numpy as np
import pytest

from custom_apps.seg.overlap_metrics import OverlapCounts, reference_extent


def masks(seed=0, shape=(5, 7, 6)):
    random = np.random.default_rng(seed)
    return random.random(shape) > 0.5, random.random(shape) > 0.6


def test_counts_and_overlaps_agree_with_their_definition():
    prediction, reference = masks()
    counts = OverlapCounts.of(prediction, reference)
    assert counts.tp + counts.fp + counts.fn + counts.tn == prediction.size
    assert (counts.n_pred, counts.n_ref) == (prediction.sum(), reference.sum())
    both, either = (prediction & reference).sum(), (prediction | reference).sum()
    assert counts.iou("nnunet") == both / either
    assert counts.dice("nnunet") == 2 * both / (prediction.sum() + reference.sum())


def test_only_valid_voxels_count():
    prediction, reference = masks()
    valid = masks(3)[0]
    counts = OverlapCounts.of(prediction, reference, valid)
    assert counts == OverlapCounts.of(prediction[valid], reference[valid])


def test_the_two_conventions_for_absent_structures():
    empty, full = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    both_empty = OverlapCounts.of(empty, empty)
    assert both_empty.dice("challenge") == both_empty.iou("challenge") == 1.0
    assert math.isnan(both_empty.dice("nnunet"))
    for convention in ("challenge", "nnunet"):
        assert OverlapCounts.of(full, empty).dice(convention) == 0
        assert OverlapCounts.of(empty, full).dice(convention) == 0
    with pytest.raises(ValueError, match="convention must be one of"):
        both_empty.dice("zero")


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        OverlapCounts.of(np.zeros((2, 3), bool), np.zeros((3, 2), bool))


def test_extent_of_a_tube():
    reference = np.zeros((9, 4, 4), bool)
    reference[2:6, 1, 1] = True
    assert reference_extent(reference, 0) == slice(2, 6)
    assert reference_extent(reference, 0, drop_last=True) == slice(2, 5)
    assert reference_extent(reference, -1) == reference_extent(reference, 2) == slice(1, 2)
    assert reference_extent(reference, 1, drop_last=True) == slice(1, 2), "a single slice is kept"
    with pytest.raises(ValueError, match="no extent"):
        reference_extent(np.zeros((2, 2, 2), bool), 0)
