import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from custom_apps.seg.augmentation_intensity import (
    RandChannelBlurd,
    RandChannelBrightnessd,
    RandChannelContrastd,
    RandChannelGammad,
)

KEYS = ("image",)


def image(channels=2, seed=0):
    values = np.random.RandomState(seed).normal(1.0, 2.0, size=(channels, 7, 9, 8))
    return torch.from_numpy(values.astype(np.float32))


ALL = [RandChannelBlurd, RandChannelBrightnessd, RandChannelContrastd, RandChannelGammad]


@pytest.mark.parametrize("kind", ALL)
def test_probability_input_untouched_and_seeded(kind):
    original = image()
    kept = original.clone()
    assert torch.equal(kind(KEYS, prob=0.0)({"image": original})["image"], original)
    made = kind(KEYS, prob=1.0)
    first = made.set_random_state(5)({"image": original})["image"]
    second = made.set_random_state(5)({"image": original})["image"]
    other = made.set_random_state(6)({"image": original})["image"]
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(original, kept)
    assert first.dtype == torch.float32
    assert type(first) is torch.Tensor
    share = sum(
        not torch.equal(kind(KEYS, prob=0.3).set_random_state(i)({"image": original})["image"], original)
        for i in range(300)
    )
    chance = 0.3 * (1 - 0.5**2) if kind is RandChannelBlurd else 0.3
    assert abs(share / 300 - chance) < 0.08


def test_channels_are_drawn_separately():
    blurred = [RandChannelBlurd(KEYS, prob=1.0).set_random_state(i)({"image": image()})["image"] for i in range(200)]
    changed = torch.stack([(each != image()).flatten(1).any(1) for each in blurred])
    assert changed.float().mean(0).sub(0.5).abs().max() < 0.12
    assert (changed[:, 0] != changed[:, 1]).any()
    bright = RandChannelBrightnessd(KEYS, prob=1.0).set_random_state(0)({"image": image()})["image"] / image()
    assert bright[0].std() < 1e-5
    assert abs(bright[0].mean() - bright[1].mean()) > 1e-3


@pytest.mark.parametrize("each_axis", [False, True])
def test_blur_is_a_gaussian_of_the_drawn_width(each_axis):
    made = RandChannelBlurd(KEYS, prob=1.0, channel_prob=1.0, sigma=(0.8, 0.8), each_axis=each_axis)
    result = made({"image": image()})["image"]
    np.testing.assert_allclose(result[1], gaussian_filter(image()[1].numpy(), 0.8), atol=1e-6)


def test_factors_are_below_one_half_of_the_time():
    made = RandChannelBrightnessd(KEYS, prob=1.0, factor=(0.7, 1.5)).set_random_state(0)
    factors = np.array([made.below_or_above(0.7, 1.5) for _ in range(2000)])
    assert abs((factors < 1).mean() - 0.5) < 0.05
    assert 0.7 <= factors.min() < 0.71
    assert 1.49 < factors.max() <= 1.5


def test_contrast_keeps_the_range_and_shrinks_about_the_mean():
    original = image(1)
    low = RandChannelContrastd(KEYS, prob=1.0, factor=(0.5, 0.5))
    low.below_or_above = lambda *_: 0.5
    torch.testing.assert_close(low({"image": original})["image"], (original - original.mean()) / 2 + original.mean())
    high = RandChannelContrastd(KEYS, prob=1.0)
    high.below_or_above = lambda *_: 1.25
    result = high({"image": original})["image"]
    assert result.min() == original.min()
    assert result.max() == original.max()
    assert (result != original).float().mean() > 0.9


@pytest.mark.parametrize("invert", [False, True])
def test_gamma_keeps_mean_and_deviation_and_bends_the_right_way(invert):
    original = image(1)
    made = RandChannelGammad(KEYS, prob=1.0, invert=invert)
    made.below_or_above = lambda *_: 1.5
    result = made({"image": original})["image"]
    assert float(result.mean()) == pytest.approx(float(original.mean()), abs=1e-4)
    assert float(result.std()) == pytest.approx(float(original.std()), abs=1e-4)
    # An exponent above 1 draws out the upper tail; applied to the negative, the lower one.
    skewness = ((result - result.mean()) ** 3).mean() - ((original - original.mean()) ** 3).mean()
    assert (skewness < 0) if invert else (skewness > 0)


@pytest.mark.parametrize("kind", ALL)
def test_a_constant_image_stays_finite(kind):
    made = kind(KEYS, prob=1.0).set_random_state(1)
    result = made({"image": torch.full((1, 5, 5), 3.0)})["image"]
    assert torch.isfinite(result).all()
