"""Measures of predicted against reported ejection fraction, each with a bootstrap interval over videos.

Ejection fractions are in percent. Videos lie along ``axis``, so that many resamples are measured at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from custom_apps.common.classification_metrics import auroc
from custom_apps.common.statistics import RESAMPLES, SEED, Estimate, bootstrap_statistic, ratio

REDUCED_EF_PERCENT = (35.0, 40.0, 45.0, 50.0)
"""Limits below which an ejection fraction counts as reduced; EchoNet-Dynamic draws its curves at these."""

NORMAL_QUANTILE = 1.96


def mean_absolute_error(reference: np.ndarray, predicted: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean of the absolute error, percentage points."""
    return np.abs(np.subtract(predicted, reference)).mean(axis)


def root_mean_square_error(reference: np.ndarray, predicted: np.ndarray, axis: int = -1) -> np.ndarray:
    """Root of the mean squared error, percentage points."""
    return np.sqrt(np.square(np.subtract(predicted, reference)).mean(axis))


def coefficient_of_determination(reference: np.ndarray, predicted: np.ndarray, axis: int = -1) -> np.ndarray:
    """R²: 1 minus squared errors over squared deviations of the reference from its mean; NaN for an equal reference."""
    errors = np.square(np.subtract(predicted, reference)).sum(axis)
    spread = np.square(reference - np.mean(reference, axis, keepdims=True)).sum(axis)
    return 1 - ratio(errors, spread)


def pearson_correlation(reference: np.ndarray, predicted: np.ndarray, axis: int = -1) -> np.ndarray:
    """Pearson's r; NaN when one of the two does not vary."""
    x, y = (values - np.mean(values, axis, keepdims=True) for values in (reference, predicted))
    return ratio((x * y).sum(axis), np.sqrt(np.square(x).sum(axis) * np.square(y).sum(axis)))


def mean_error(reference: np.ndarray, predicted: np.ndarray, axis: int = -1) -> np.ndarray:
    """Bias: mean of predicted minus reported, percentage points."""
    return np.subtract(predicted, reference).mean(axis)


def limit_of_agreement(reference: np.ndarray, predicted: np.ndarray, axis: int = -1, *, side: int) -> np.ndarray:
    """Bias plus ``side`` (1 or -1) times 1.96 standard deviations of the error. Source: Bland and Altman 1986."""
    error = np.subtract(predicted, reference)
    return error.mean(axis) + side * NORMAL_QUANTILE * error.std(axis, ddof=1)


def reduced_ef_auroc(reference: np.ndarray, predicted: np.ndarray, axis: int = -1, *, below_percent: float):
    """Area under the curve of telling ejection fractions below a limit; NaN when all are on one side of it."""
    return auroc(np.asarray(reference) < below_percent, -np.asarray(predicted), axis)


MEASURES: dict[str, Callable[..., np.ndarray]] = {
    "mae": mean_absolute_error,
    "rmse": root_mean_square_error,
    "r2": coefficient_of_determination,
    "pearson_r": pearson_correlation,
    "bias": mean_error,
    "lower_limit_of_agreement": partial(limit_of_agreement, side=-1),
    "upper_limit_of_agreement": partial(limit_of_agreement, side=1),
}
TITLES = {
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
    "pearson_r": "Pearson r",
    "bias": "bias",
    "lower_limit_of_agreement": "95 % agreement, lower",
    "upper_limit_of_agreement": "95 % agreement, upper",
}


@dataclass(frozen=True)
class Intervals:
    """How intervals are made.

    Attributes:
        level: coverage; EchoNet-Dynamic reports the 5th to the 95th percentile, that is 0.9.
        resamples: bootstrap samples of videos.
        seed: of the draws.
    """

    level: float = 0.95
    resamples: int = RESAMPLES
    seed: int = SEED


DEFAULT_INTERVALS = Intervals()


def ef_estimates(
    reference: Sequence[float],
    predicted: Sequence[float],
    reduced_ef_percent: Sequence[float] = REDUCED_EF_PERCENT,
    intervals: Intervals = DEFAULT_INTERVALS,
) -> dict[str, Estimate]:
    """Every measure with its interval: :data:`MEASURES`, and ``auroc_below_<limit>`` for each limit.

    Args:
        reference: reported ejection fraction of each video, percent.
        predicted: one prediction for each video, percent. Predictions of several clips have to be averaged before:
            the error of an average is not the average of the errors.
        reduced_ef_percent: limits of reduced ejection fraction.
        intervals: how intervals are made.

    Raises:
        ValueError: for different lengths and for values that are not finite.
    """
    reference, predicted = (np.asarray(values, np.float64).ravel() for values in (reference, predicted))
    if not (np.isfinite(reference).all() and np.isfinite(predicted).all()):
        raise ValueError("ejection fractions must be finite")
    measures = MEASURES | {
        f"auroc_below_{limit:g}": partial(reduced_ef_auroc, below_percent=limit) for limit in reduced_ef_percent
    }
    if len(reference) < 2:
        # A standard deviation of one error does not exist, and numpy would warn of it.
        measures = {name: measure for name, measure in measures.items() if "limit_of_agreement" not in name}
    return {
        name: bootstrap_statistic(measure, reference, predicted, vectorized=True, **asdict(intervals))
        for name, measure in measures.items()
    }


def title_of(measure: str) -> str:
    """The name of a measure for a table."""
    limit = measure.removeprefix("auroc_below_")
    return f"AUC, EF < {limit} %" if limit != measure else TITLES[measure]


def estimates_as_json(estimates: dict[str, Estimate]) -> dict[str, Any]:
    """Estimates as plain values: value, ends of the interval, its level and the number of videos."""
    return {
        name: {"value": e.value, "low": e.low, "high": e.high, "level": e.level, "cases": e.cases}
        for name, e in estimates.items()
    }
