import math

import numpy as np
import pytest
from sklearn import metrics

from custom_apps.common.classification_metrics import (
    Counts,
    auprc,
    auroc,
    calibration_error,
    classification_estimates,
    classification_values,
    logit_accuracy,
    logit_auroc,
    youden_threshold,
)


@pytest.fixture
def cases():
    random = np.random.default_rng(0)
    labels = (random.random(61) < 0.35).astype(int)
    # Rounded, so that cases of both classes share a score.
    return labels, np.round(np.clip(random.normal(0.35 + 0.25 * labels, 0.2), 0, 1), 1)


def test_measures_of_decisions_are_those_of_scikit_learn(cases):
    labels, scores = cases
    decisions = (scores >= 0.5).astype(int)
    counts = Counts.of(labels, decisions)
    assert [[counts.tn, counts.fp], [counts.fn, counts.tp]] == metrics.confusion_matrix(labels, decisions).tolist()
    assert counts.accuracy == pytest.approx(metrics.accuracy_score(labels, decisions))
    assert counts.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, decisions))
    assert counts.sensitivity == pytest.approx(metrics.recall_score(labels, decisions))
    assert counts.specificity == pytest.approx(metrics.recall_score(labels, decisions, pos_label=0))
    assert counts.precision == pytest.approx(metrics.precision_score(labels, decisions))
    assert counts.f1 == pytest.approx(metrics.f1_score(labels, decisions))
    assert counts.macro_f1 == pytest.approx(metrics.f1_score(labels, decisions, average="macro"))


def test_measures_of_rankings_are_those_of_scikit_learn(cases):
    labels, scores = cases
    assert auroc(labels, scores) == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert auprc(labels, scores) == pytest.approx(metrics.average_precision_score(labels, scores))


def test_leading_axes_are_resamples(cases):
    draws = np.random.default_rng(1).integers(0, 61, (2, 5, 61))
    labels, scores = cases[0][draws], cases[1][draws]
    for measure, reference in (
        (auroc, metrics.roc_auc_score),
        (auprc, metrics.average_precision_score),
        (calibration_error, calibration_error),
    ):
        ours = measure(labels, scores)
        assert ours.shape == (2, 5)
        assert ours[1, 3] == pytest.approx(reference(labels[1, 3], scores[1, 3]))
        np.testing.assert_allclose(measure(np.moveaxis(labels, -1, 0), np.moveaxis(scores, -1, 0), axis=0), ours)


def test_calibration_error_by_hand():
    # One bin: mean probability 0.625 against a share of 0.5; and one case of probability 1, all right.
    assert calibration_error(np.array([1, 0, 1]), np.array([0.61, 0.64, 1.0])) == pytest.approx(0.25 / 3)
    assert calibration_error(np.array([0, 1]), np.array([0.0, 1.0])) == 0


def test_undefined_measures_are_nan():
    nothing = Counts.of(np.zeros(4), np.zeros(4))
    assert nothing.specificity == nothing.accuracy == 1
    assert math.isnan(nothing.sensitivity)
    assert math.isnan(nothing.precision)
    assert math.isnan(nothing.f1)
    assert math.isnan(auroc(np.ones(3), np.arange(3)))
    assert math.isnan(auprc(np.zeros(3), np.arange(3)))
    assert math.isnan(youden_threshold([1, 1], [0.2, 0.3]))


def test_youden_threshold(cases):
    labels, scores = cases
    best = youden_threshold(labels, scores)
    counts = Counts.of(labels, scores >= best)
    others = [Counts.of(labels, scores >= threshold) for threshold in np.unique(scores)]
    assert counts.sensitivity + counts.specificity == max(c.sensitivity + c.specificity for c in others)
    assert youden_threshold([1, 0], [0.9, 0.1]) == 0.9
    assert youden_threshold([1, 0], [0.1, 0.9]) == math.inf


def test_estimates_have_intervals(cases):
    labels, scores = cases
    found = classification_estimates(labels, scores, threshold=0.6, resamples=400)
    assert {name: estimate.value for name, estimate in found.items()} == classification_values(labels, scores, 0.6)
    assert found["auroc"].value == auroc(labels, scores)
    assert found["sensitivity"].value == Counts.of(labels, scores >= 0.6).sensitivity
    for name, estimate in found.items():
        assert estimate.low < estimate.value < estimate.high or name == "calibration_error", name
        assert estimate.cases == 61
    # The normal approximation of a share, which the bootstrap must meet.
    share = found["accuracy"].value
    half = 1.96 * math.sqrt(share * (1 - share) / 61)
    assert found["accuracy"].low == pytest.approx(share - half, abs=0.03)
    assert found["accuracy"].high == pytest.approx(share + half, abs=0.03)


def test_one_class_leaves_some_measures_without_value():
    found = classification_estimates([1, 1, 1], [0.2, 0.7, 0.9], resamples=50)
    assert found["sensitivity"].value == pytest.approx(2 / 3)
    assert math.isnan(found["auroc"].value)
    assert math.isnan(found["auroc"].low)


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="0 or 1"):
        classification_estimates([0, 2], [0.1, 0.2])
    with pytest.raises(ValueError, match="0 labels"):
        classification_estimates([], [])
    with pytest.raises(ValueError, match=r"0\.\.1"):
        classification_estimates([0, 1], [0.1, math.nan])


def test_logits_of_two_classes_rank_and_decide_like_their_probabilities(cases):
    labels, scores = cases
    scores = np.clip(scores, 0.01, 0.99)
    logits = 3 + np.log(np.stack([1 - scores, scores], 1))
    assert logit_auroc(labels, logits) == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert logit_accuracy([0, 1, 1], [[2, 1], [0, 1], [1, 0]]) == pytest.approx(2 / 3)
