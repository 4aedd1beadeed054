import math

import numpy as np
import pytest

from custom_apps.common.statistics import bootstrap_mean, bootstrap_statistic, paired_difference, ratio


def test_the_interval_is_that_of_the_normal_approximation_for_many_cases():
    values = np.random.default_rng(0).normal(0.9, 0.05, 400)
    found = bootstrap_mean(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert found.value == values.mean()
    assert found.std == values.std(ddof=1)
    assert found.cases == 400
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(1)
    intervals = [bootstrap_mean(random.normal(0, 1, 60), resamples=400) for _ in range(200)]
    covered = np.mean([e.low <= 0 <= e.high for e in intervals])
    assert 0.9 <= covered <= 0.98


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(2).random(30)
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values, seed=1).low != bootstrap_mean(values).low
    assert bootstrap_mean(values, level=0.5).low > bootstrap_mean(values).low


def test_cases_without_a_value_do_not_count():
    found = bootstrap_mean([0.5, float("nan"), 0.7])
    assert (found.cases, found.value) == (2, 0.6)


def test_few_cases():
    assert math.isnan(bootstrap_mean([]).value)
    one = bootstrap_mean([0.5])
    assert (one.value, one.cases) == (0.5, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.std)
    same = bootstrap_mean([1.0, 1.0, 1.0])
    assert (same.low, same.high, same.std) == (1, 1, 0)


def test_infinite_values_are_refused():
    with pytest.raises(ValueError, match="infinite"):
        bootstrap_mean([1.0, math.inf])


def test_pairs_are_kept_together():
    random = np.random.default_rng(3)
    difficulty = random.normal(0.8, 0.15, 40)
    better, worse = difficulty + 0.02 + random.normal(0, 0.005, 40), difficulty
    paired = paired_difference(better, worse)
    assert 0 < paired.low < 0.02 < paired.high + 0.003
    assert paired.high - paired.low < (bootstrap_mean(worse).high - bootstrap_mean(worse).low) / 5
    with pytest.raises(ValueError, match="one length"):
        paired_difference([1, 2], [1])


def test_a_statistic_of_two_samples():
    random = np.random.default_rng(4)
    x = random.normal(size=80)
    y = x + random.normal(size=80)
    found = bootstrap_statistic(lambda a, b: np.corrcoef(a, b)[0, 1], x, y, resamples=500)
    assert found.low < np.corrcoef(x, y)[0, 1] == found.value < found.high
    with pytest.raises(ValueError, match="one length"):
        bootstrap_statistic(lambda a, b: 0.0, [1, 2], [1])


def test_resamples_without_a_value_are_left_out():
    found = bootstrap_statistic(lambda a: a.mean() if a.any() else math.nan, np.array([0, 0, 1]), resamples=300)
    assert found.low == pytest.approx(1 / 3)
    assert found.high == 1


def test_text():
    found = bootstrap_mean([0.25, 0.75])
    assert found.text(2) == "0.50 ± 0.35 (95 % CI 0.25 to 0.75, n = 2)"
    assert bootstrap_mean([0.5]).text() == "0.500 (n = 1)"
    assert bootstrap_mean([]).text() == "no case"
    assert found.brief(2) == "0.50 (0.25 to 0.75)"
    assert bootstrap_mean([0.5]).brief() == "0.500"
    assert bootstrap_mean([]).brief() == "-"


def test_a_vectorized_statistic_gives_the_same_interval():
    x = np.random.default_rng(6).normal(size=40)
    one, many = (bootstrap_statistic(np.median, x, resamples=200, vectorized=flag) for flag in (False, True))
    assert one == many


def test_groups_are_drawn_whole():
    random = np.random.default_rng(7)
    patient = np.repeat(np.arange(20), 10)
    x = random.normal(size=20)[patient] + 0.01 * random.normal(size=200)
    apart, together = (bootstrap_statistic(np.mean, x, resamples=500, groups=g) for g in (None, patient))
    # Ten images of a patient say hardly more than one, so the interval is about the root of ten as wide.
    assert together.high - together.low == pytest.approx(np.sqrt(10) * (apart.high - apart.low), rel=0.15)
    assert (together.value, together.cases) == (apart.value, 200)
    single = bootstrap_statistic(np.mean, x, resamples=500, groups=np.arange(200))
    assert single.high - single.low == pytest.approx(apart.high - apart.low, rel=0.1)
    with pytest.raises(ValueError, match="groups"):
        bootstrap_statistic(np.mean, x, groups=[1, 2])


def test_ratio():
    found = ratio(np.array([1.0, 0.0, 2.0]), np.array([2.0, 0.0, 0.0]))
    np.testing.assert_array_equal(found, [0.5, np.nan, np.nan])
    assert ratio(3, 4) == 0.75
