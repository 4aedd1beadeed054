import math

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, r2_score, roc_auc_score, root_mean_squared_error

from custom_apps.echo.ef_metrics import Intervals, ef_estimates, estimates_as_json, title_of

FAST = Intervals(resamples=300)


@pytest.fixture
def videos():
    random = np.random.default_rng(0)
    reference = random.normal(55, 12, 83).clip(8, 85)
    return reference, reference + random.normal(1.5, 5, 83)


def test_values_are_those_of_scikit_learn_and_scipy(videos):
    reference, predicted = videos
    found = {name: e.value for name, e in ef_estimates(*videos, intervals=FAST).items()}
    assert found["mae"] == pytest.approx(mean_absolute_error(reference, predicted))
    assert found["rmse"] == pytest.approx(root_mean_squared_error(reference, predicted))
    assert found["r2"] == pytest.approx(r2_score(reference, predicted))
    assert found["pearson_r"] == pytest.approx(pearsonr(reference, predicted).statistic)
    assert found["auroc_below_40"] == pytest.approx(roc_auc_score(reference < 40, -predicted))
    assert found["auroc_below_50"] == pytest.approx(roc_auc_score(reference >= 50, predicted))


def test_limits_of_agreement_by_hand():
    found = ef_estimates([50.0, 60.0, 40.0], [52.0, 60.0, 36.0], intervals=FAST)
    # Errors 2, 0, -4.
    deviation = math.sqrt((2 + 2 / 3) ** 2 + (2 / 3) ** 2 + (-4 + 2 / 3) ** 2) / math.sqrt(2)
    assert found["bias"].value == pytest.approx(-2 / 3)
    assert found["upper_limit_of_agreement"].value == pytest.approx(-2 / 3 + 1.96 * deviation)
    assert found["lower_limit_of_agreement"].value == pytest.approx(-2 / 3 - 1.96 * deviation)


def test_intervals_hold_the_value_and_narrow_with_the_level(videos):
    wide, narrow = (ef_estimates(*videos, intervals=Intervals(level, 300)) for level in (0.95, 0.9))
    for name, estimate in wide.items():
        assert estimate.low < estimate.value < estimate.high or name.startswith("auroc"), name
        assert estimate.low <= narrow[name].low <= narrow[name].high <= estimate.high
    error = np.abs(videos[1] - videos[0])
    half = 1.96 * error.std(ddof=1) / math.sqrt(83)
    assert wide["mae"].high - wide["mae"].low == pytest.approx(2 * half, rel=0.2)


def test_intervals_are_those_of_plain_resampling(videos):
    """The many-at-once arithmetic against a loop over the same draws' distribution."""
    reference, predicted = videos
    random = np.random.default_rng(5)
    draws = [random.integers(0, 83, 83) for _ in range(2000)]
    loop = np.percentile([r2_score(reference[d], predicted[d]) for d in draws], [2.5, 97.5])
    found = ef_estimates(*videos, intervals=Intervals(resamples=2000))["r2"]
    np.testing.assert_allclose([found.low, found.high], loop, atol=0.01)


def test_one_video_and_equal_values():
    one = ef_estimates([50.0], [53.0])
    assert one["mae"].value == 3
    assert math.isnan(one["r2"].value)
    assert "upper_limit_of_agreement" not in one
    same = ef_estimates([50.0, 50.0, 50.0], [48.0, 50.0, 52.0], intervals=FAST)
    assert math.isnan(same["r2"].value)
    assert math.isnan(same["pearson_r"].value)
    assert math.isnan(same["auroc_below_40"].value)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        ef_estimates([50.0, math.nan], [50.0, 50.0])


def test_names_and_plain_values(videos):
    found = ef_estimates(*videos, reduced_ef_percent=[37.5], intervals=FAST)
    assert title_of("auroc_below_37.5") == "AUC, EF < 37.5 %"
    assert all(title_of(name) for name in found)
    assert estimates_as_json(found)["mae"]["cases"] == 83
