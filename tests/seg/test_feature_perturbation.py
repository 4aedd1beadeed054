import pytest
import torch

from custom_apps.seg.feature_perturbation import FeaturePerturbation, perturb_features


def skips():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(2, 8, 16 // 2**i, 16 // 2**i, 6, generator=generator) + 0.5 for i in range(4)]


def test_the_most_attended_positions_are_silenced():
    features = torch.ones(1, 2, 3, 3)
    features[..., 1, 1] = 4.0
    result = perturb_features(features, torch.ones(1, 2, 1, 1), 0.5, torch.zeros(2, 3, 3), dropout=0.0)
    expected = features.clone()
    expected[..., 1, 1] = 0
    assert torch.equal(result, expected)


def test_the_threshold_is_each_samples_own():
    features = torch.ones(2, 1, 2, 2)
    features[1] *= 100
    features[:, :, 0, 0] *= 0.1
    result = perturb_features(features, torch.ones(2, 1, 1, 1), 0.7, torch.zeros(1, 2, 2), dropout=0.0)
    assert (result != 0).flatten(1).sum(1).tolist() == [1, 1]


def test_only_the_deepest_skips_are_perturbed():
    given = skips()
    result = FeaturePerturbation(layers=2, seed=0)(given)
    assert [torch.equal(a, b) for a, b in zip(given, result, strict=True)] == [True, True, False, False]
    assert all(torch.equal(a, b) is False for a, b in zip(given, FeaturePerturbation(5, seed=0)(given), strict=True))


def test_ranges_of_the_draws_and_the_seed():
    given = [torch.full((4, 400, 5, 5), 1.0)]
    given[0][..., 0, 0] = 0.0  # elsewhere attention equals its maximum and is silenced
    given[0] -= 2.0 * (torch.arange(25).view(5, 5) % 2 == 1)  # negative attention is always below the threshold
    result = FeaturePerturbation(seed=1)(given)[0]
    ratio = (result / given[0])[..., 0, 1]
    kept = ratio[ratio != 0]
    assert 0.45 < len(kept) / ratio.numel() < 0.55
    assert 1.4 <= kept.min() < 1.45
    assert 2.55 < kept.max() <= 2.6
    assert torch.equal(FeaturePerturbation(seed=1)(given)[0], result)
    assert not torch.equal(FeaturePerturbation(seed=2)(given)[0], result)


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 3, 4, 5), (2, 3, 4, 5, 6)])
def test_gradients_reach_the_features(shape):
    features = torch.rand(shape, requires_grad=True)
    FeaturePerturbation(seed=3)([features])[0].sum().backward()
    assert torch.isfinite(features.grad).all()
