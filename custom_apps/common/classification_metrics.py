"""Measures of a two-class classifier, for one set of cases or for many resamples of it at once.

Labels are 0 or 1, probabilities are those of class 1, and cases lie along the last axis; leading axes are resamples.
Where a measure is undefined (no case of a class, no positive decision) it is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from custom_apps.common.statistics import RESAMPLES, SEED, Estimate, bootstrap_statistic, ratio

CALIBRATION_BINS = 10
TITLES = {
    "auroc": "AUROC",
    "auprc": "AUPRC (average precision)",
    "calibration_error": "expected calibration error",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
    "macro_f1": "macro F1",
}
OPTIMISTIC = (
    "The Youden threshold is the best one for these very cases, so what is measured at it is optimistic; "
    "for a fair number choose it on validation cases and give it as `threshold`."
)

DECISION_NAMES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1", "macro_f1")


@dataclass(frozen=True)
class Counts:
    """Cells of the confusion matrix: true and false positives and negatives."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, decisions: np.ndarray, axis: int = -1) -> Counts:
        """Counts cases along ``axis``; both arrays hold 0 and 1."""
        truth, decided = np.asarray(labels).astype(bool), np.asarray(decisions).astype(bool)
        cells = (truth & decided, ~truth & decided, truth & ~decided, ~truth & ~decided)
        return cls(*(cell.sum(axis, dtype=np.float64) for cell in cells))

    @property
    def accuracy(self) -> np.ndarray:
        """Share of cases decided rightly."""
        return ratio(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)

    @property
    def sensitivity(self) -> np.ndarray:
        """Share of class 1 that is found (recall)."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> np.ndarray:
        """Share of class 0 that is left alone."""
        return ratio(self.tn, self.tn + self.fp)

    @property
    def balanced_accuracy(self) -> np.ndarray:
        """Mean of sensitivity and specificity."""
        return (self.sensitivity + self.specificity) / 2

    @property
    def precision(self) -> np.ndarray:
        """Share of positive decisions that are right (positive predictive value)."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def f1(self) -> np.ndarray:
        """Harmonic mean of precision and sensitivity; 0 without a true positive, NaN without class 1 and decision 1."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def macro_f1(self) -> np.ndarray:
        """Mean of the F1 of class 1 and that of class 0."""
        return (self.f1 + ratio(2 * self.tn, 2 * self.tn + self.fp + self.fn)) / 2


def auroc(labels: np.ndarray, scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Area under the receiver operating characteristic: how often class 1 scores above class 0, ties counted half.

    Source: the rank form of Hanley and McNeil 1982. NaN where a class is missing.
    """
    from scipy.stats import rankdata

    truth, scores = _cases_last(labels, scores, axis)
    positives = truth.sum(-1, dtype=np.float64)
    negatives = truth.shape[-1] - positives
    ranks = (rankdata(scores, axis=-1) * truth).sum(-1)
    return ratio(ranks - positives * (positives + 1) / 2, positives * negatives)


def auprc(labels: np.ndarray, scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Average precision: precision at each distinct score, weighted by the sensitivity gained; no interpolation.

    NaN without class 1.
    """
    truth, scores = _cases_last(labels, scores, axis)
    order = np.argsort(-scores, axis=-1, kind="stable")
    truth, scores = (np.take_along_axis(values, order, -1) for values in (truth.astype(np.float64), scores))
    found = truth.cumsum(-1)
    # Cases of one score are decided together, so only the last of them is a point of the curve.
    ends = np.concatenate([scores[..., 1:] != scores[..., :-1], np.ones((*scores.shape[:-1], 1), bool)], -1)
    at_end = np.where(ends, found, 0)
    before = np.concatenate([np.zeros((*found.shape[:-1], 1)), np.maximum.accumulate(at_end, -1)[..., :-1]], -1)
    gained = np.where(ends, found - before, 0)
    precision = found / np.arange(1, found.shape[-1] + 1)
    return ratio((gained * precision).sum(-1), found[..., -1])


def logit_auroc(labels: np.ndarray, logits: np.ndarray) -> float:
    """Area under the curve of cases with the logits of both classes, (cases,) and (cases, 2)."""
    logits = np.asarray(logits, np.float64)
    return float(auroc(labels, logits[:, 1] - logits[:, 0]))


def logit_accuracy(labels: np.ndarray, logits: np.ndarray) -> float:
    """Share of cases whose own class has the largest logit, (cases,) and (cases, classes)."""
    return float(np.mean(np.argmax(logits, axis=1) == np.asarray(labels)))


def calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, axis: int = -1, bins: int = CALIBRATION_BINS
) -> np.ndarray:
    """Expected calibration error: mean distance between probability and share of class 1 over bins of equal width.

    Source: Guo et al. 2017, for the probability of class 1 instead of that of the decision.
    """
    truth, probabilities = _cases_last(labels, probabilities, axis)
    place = np.clip((probabilities * bins).astype(int), 0, bins - 1)
    excess = probabilities - truth
    distances = [np.abs(np.where(place == number, excess, 0).sum(-1)) for number in range(bins)]
    return sum(distances) / truth.shape[-1]


def youden_threshold(labels: Sequence[float], scores: Sequence[float]) -> float:
    """The score from which on a case is called positive so that sensitivity + specificity is largest.

    Of equal choices the highest threshold is taken. Infinite, that is nothing is called positive, when no threshold
    beats chance; NaN where a class is missing. To be chosen on other cases than those reported.

    Source: Youden 1950.
    """
    from sklearn.metrics import roc_curve

    truth, scores = np.asarray(labels, bool).ravel(), np.asarray(scores).ravel()
    if truth.all() or not truth.any():
        return float("nan")
    false_positives, true_positives, thresholds = roc_curve(truth, scores, drop_intermediate=False)
    return float(thresholds[np.argmax(true_positives - false_positives)])


def classification_values(
    labels: Sequence[int], probabilities: Sequence[float], threshold: float = 0.5
) -> dict[str, float]:
    """All measures of this module as plain numbers; arguments as of :func:`classification_estimates`."""
    truth, scores = _checked(labels, probabilities)
    return {name: float(measure(truth, scores)) for name, measure in _measures(threshold).items()}


def classification_estimates(
    labels: Sequence[int],
    probabilities: Sequence[float],
    threshold: float = 0.5,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, Estimate]:
    """All measures of this module with bootstrap intervals over cases, or over groups of them.

    An interval of a share that is exactly 0 or 1 has no width, whatever the number of cases: resamples repeat it.

    Args:
        labels: 0 or 1 for each case, at least one case.
        probabilities: of class 1, in 0..1; the calibration error and the threshold refer to them.
        threshold: a case is called positive from this probability on. It stays fixed in the resamples.
        level: coverage of the intervals.
        resamples: bootstrap samples.
        seed: of the draws.
        groups: of each case, such as its patient; whole groups are drawn.

    Raises:
        ValueError: for no case, labels other than 0 and 1, probabilities outside of 0..1, or different lengths.
    """
    truth, scores = _checked(labels, probabilities)
    options = {"level": level, "resamples": resamples, "seed": seed, "vectorized": True, "groups": groups}
    return {
        name: bootstrap_statistic(measure, truth, scores, **options) for name, measure in _measures(threshold).items()
    }


def _checked(labels: Sequence[int], probabilities: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    truth, scores = np.asarray(labels).ravel(), np.asarray(probabilities, np.float64).ravel()
    if not len(truth) or len(truth) != len(scores):
        raise ValueError(f"{len(truth)} labels and {len(scores)} probabilities; equally many are needed, and some")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError(f"labels must be 0 or 1, got {np.unique(truth)[:5].tolist()}")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("probabilities must lie in 0..1")
    return truth, scores


def _measures(threshold: float) -> dict[str, Callable[..., np.ndarray]]:
    """Name to function of labels, probabilities and axis."""
    decisions = {name: partial(_decision_measure, name=name, threshold=threshold) for name in DECISION_NAMES}
    return {"auroc": auroc, "auprc": auprc, "calibration_error": calibration_error, **decisions}


def _decision_measure(labels: np.ndarray, scores: np.ndarray, axis: int = -1, *, name: str, threshold: float):
    return getattr(Counts.of(labels, np.asarray(scores) >= threshold, axis), name)


def _cases_last(labels: np.ndarray, scores: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    return np.moveaxis(np.asarray(labels).astype(bool), axis, -1), np.moveaxis(np.asarray(scores), axis, -1)
