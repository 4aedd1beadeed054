import pytest
import torch

from custom_apps.brain.normalization import JointNormalized, scaled_to_unit, standardized


def volume(shape=(4, 7, 5, 6)):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_one_mean_and_unbiased_variance_over_all_channels():
    result = standardized(volume())
    assert abs(float(result.double().mean())) < 1e-6
    assert float(result.double().var()) == pytest.approx(1, abs=1e-6)
    assert result[0].mean().abs() > 1e-3
    assert result.dtype == torch.float32


def test_range():
    result = scaled_to_unit(volume() // 2 + 40)
    assert result.min() == 0
    assert result.max() == 1


@pytest.mark.parametrize("kind", ["zscore", "minmax"])
def test_constant_volume_becomes_zeros(kind):
    result = JointNormalized(kind=kind)({"image": torch.full((4, 3, 3, 3), 17, dtype=torch.uint8)})["image"]
    assert torch.equal(result, torch.zeros(4, 3, 3, 3))


def test_large_volume_keeps_its_precision():
    large = torch.zeros(4, 64, 64, 64, dtype=torch.uint8)
    large[:, 20:40] = volume((4, 20, 64, 64))
    result = standardized(large)
    values = large.double() / 255
    assert (result.double() - (values - values.mean()) / values.std()).abs().max() < 1e-5


def test_unknown_kind():
    with pytest.raises(ValueError, match="kind"):
        JointNormalized(kind="percentile")
