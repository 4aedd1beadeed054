import numpy as np
import pytest

from custom_apps.seg import intensity_sampling
from custom_apps.seg.intensity_sampling import IntensityCounts, sample_foreground


def spelled_out(counts: IntensityCounts) -> np.ndarray:
    return np.repeat(counts.values, counts.counts)


def test_draws_are_those_of_one_random_state(monkeypatch):
    random = np.random.default_rng(0)
    image, foreground = random.normal(size=(2, 4, 5, 6)), random.random((4, 5, 6)) > 0.5
    monkeypatch.setattr(intensity_sampling, "CHUNK", 37)
    found = sample_foreground(image, foreground, 1000)
    state = np.random.RandomState(1234)
    for channel, counts in zip(image, found, strict=True):
        expected = state.choice(channel[foreground], 1000, replace=True)
        np.testing.assert_array_equal(spelled_out(counts), np.sort(expected))


def test_statistics_are_those_of_the_pooled_draws():
    random = np.random.default_rng(1)
    draws = [np.round(random.normal(100, 30, 777)), random.integers(0, 9, 778).astype(float), np.array([2000.5])]
    pooled = np.concatenate(draws)
    found = IntensityCounts.merge([IntensityCounts.of(d, np.ones(len(d), int)) for d in draws]).statistics()
    low, median, high = np.percentile(pooled, (0.5, 50, 99.5))
    expected = {"mean": pooled.mean(), "std": pooled.std(), "median": median, "min": pooled.min(), "max": pooled.max()}
    expected |= {"percentile_00_5": low, "percentile_99_5": high}
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 200, 201])
def test_percentiles_of_small_sets(size):
    values = np.random.default_rng(size).integers(0, 5, size).astype(float)
    counts = IntensityCounts.of(values, np.ones(size, int))
    for q in (0, 0.5, 33, 50, 99.5, 100):
        assert counts.percentile(q) == pytest.approx(np.percentile(values, q))


def test_no_foreground():
    (found,) = sample_foreground(np.ones((1, 2, 3, 4)), np.zeros((2, 3, 4), bool), 100)
    assert found.total == 0
    some = IntensityCounts.of(np.array([1.0, 1.0]), np.array([2, 3]))
    assert IntensityCounts.merge([found, some]).total == 5
