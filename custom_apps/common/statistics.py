"""Means with their uncertainty: standard deviation and bootstrap intervals over cases."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
SEED = 0
BATCH_NUMBERS = 2**22


@dataclass(frozen=True)
class Estimate:
    """A statistic of a sample of cases.

    Attributes:
        value: the statistic; NaN without cases.
        low: lower end of its interval; NaN with fewer than two cases.
        high: upper end.
        std: sample standard deviation of the cases (divisor n - 1); NaN with fewer than two, or for several samples.
        cases: number of cases used.
        level: coverage of the interval.
    """

    value: float
    low: float
    high: float
    std: float
    cases: int
    level: float = 0.95

    def text(self, digits: int = 3) -> str:
        """For example ``0.871 ± 0.052 (95 % CI 0.848 to 0.892, n = 20)``."""
        if not self.cases:
            return "no case"
        spread = "" if math.isnan(self.std) else f" ± {self.std:.{digits}f}"
        interval = f"{100 * self.level:g} % CI {self.low:.{digits}f} to {self.high:.{digits}f}, "
        return f"{self.value:.{digits}f}{spread} ({'' if math.isnan(self.low) else interval}n = {self.cases})"

    def brief(self, digits: int = 3) -> str:
        """For example ``0.871 (0.848 to 0.892)``; a dash without a value."""
        if math.isnan(self.value):
            return "-"
        interval = "" if math.isnan(self.low) else f" ({self.low:.{digits}f} to {self.high:.{digits}f})"
        return f"{self.value:.{digits}f}{interval}"


def bootstrap_mean(
    values: Sequence[float], level: float = 0.95, resamples: int = RESAMPLES, seed: int = SEED
) -> Estimate:
    """Mean over cases with a percentile bootstrap interval.

    Cases are drawn with replacement (Efron 1979); the seed makes the interval repeatable. NaN cases are left out and do
    not count.

    Args:
        values: one number per case.
        level: coverage of the interval.
        resamples: bootstrap samples.
        seed: of the draws.

    Raises:
        ValueError: for infinite values, whose mean says nothing.
    """
    sample = np.asarray(values, np.float64).ravel()
    sample = sample[~np.isnan(sample)]
    if np.isinf(sample).any():
        raise ValueError("infinite values have no mean; count them apart")
    estimate = bootstrap_statistic(np.mean, sample, level=level, resamples=resamples, seed=seed)
    std = float(sample.std(ddof=1)) if len(sample) > 1 else math.nan
    return Estimate(estimate.value, estimate.low, estimate.high, std, len(sample), level)


def paired_difference(
    first: Sequence[float], second: Sequence[float], level: float = 0.95, resamples: int = RESAMPLES, seed: int = SEED
) -> Estimate:
    """Mean over cases of ``first - second``, both measured on the same cases in the same order.

    Whole pairs are resampled, which is what makes the interval narrow when two methods fail on the same cases. Pairs
    with a NaN are left out.

    Raises:
        ValueError: if the lengths differ.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != other.shape:
        raise ValueError(f"paired samples need one length, got {one.shape} and {other.shape}")
    return bootstrap_mean(one - other, level, resamples, seed)


def bootstrap_statistic(
    statistic: Callable[..., float],
    *samples: Sequence[float],
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    vectorized: bool = False,
    groups: Sequence[Hashable] | None = None,
) -> Estimate:
    """Any statistic of one or several samples with a percentile bootstrap interval; entry i of all samples is case i.

    Args:
        statistic: takes the samples, returns a number. NaN on a resample (for example an area under the curve without a
            positive case) is left out of the interval.
        samples: arrays with one entry per case, for example labels and scores.
        level: coverage of the interval.
        resamples: bootstrap samples.
        seed: of the draws.
        vectorized: whether ``statistic`` takes ``axis`` and works on many resamples at once, which is much faster.
        groups: of each case, such as its patient; whole groups are then drawn, because cases of one patient are alike.

    Raises:
        ValueError: if the lengths differ.
    """
    arrays = [np.asarray(sample) for sample in samples]
    cases = len(arrays[0])
    if any(len(array) != cases for array in arrays):
        raise ValueError(f"samples need one length, got {[len(array) for array in arrays]}")
    if cases < 2:
        return Estimate(float(statistic(*arrays)) if cases else math.nan, math.nan, math.nan, math.nan, cases, level)
    if groups is not None:
        values = _of_drawn_groups(statistic, arrays, groups, resamples, seed)
    else:
        values = _of_drawn_cases(statistic, arrays, resamples, seed, vectorized or statistic is np.mean)
    values = values[~np.isnan(values)]
    tails = [50 * (1 - level), 50 * (1 + level)]
    low, high = np.percentile(values, tails) if len(values) else (math.nan, math.nan)
    return Estimate(float(statistic(*arrays)), float(low), float(high), math.nan, cases, level)


def _of_drawn_cases(
    statistic: Callable[..., float], arrays: Sequence[np.ndarray], resamples: int, seed: int, vectorized: bool
) -> np.ndarray:
    """The statistic of each resample of cases."""
    from scipy.stats import DegenerateDataWarning, bootstrap

    with warnings.catch_warnings():
        # Equal resamples are no fault here: the interval then has no width.
        warnings.simplefilter("ignore", DegenerateDataWarning)
        drawn = bootstrap(
            arrays,
            statistic,
            paired=True,
            vectorized=vectorized,
            n_resamples=resamples,
            batch=max(1, BATCH_NUMBERS // len(arrays[0])),
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    return drawn.bootstrap_distribution


def _of_drawn_groups(
    statistic: Callable[..., float],
    arrays: Sequence[np.ndarray],
    groups: Sequence[Hashable],
    resamples: int,
    seed: int,
) -> np.ndarray:
    """The statistic of each resample of groups of cases."""
    if len(groups) != len(arrays[0]):
        raise ValueError(f"{len(groups)} groups for {len(arrays[0])} cases")
    members: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    places, random = list(members.values()), np.random.default_rng(seed)
    values = []
    for draw in random.integers(0, len(places), (resamples, len(places))):
        chosen = np.concatenate([places[number] for number in draw])
        values.append(float(statistic(*(array[chosen] for array in arrays))))
    return np.array(values)


def ratio(part: np.ndarray | float, whole: np.ndarray | float) -> np.ndarray:
    """``part / whole`` of arrays that broadcast, NaN where ``whole`` is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    result = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=result, where=whole != 0)
    return result[()]
