import pytest
import torch
from monai.inferers import SlidingWindowInferer

from custom_apps.thyroid.scaled_windows import ScaledWindowInferer

WINDOWS = {"roi_size": [16, 16], "sw_batch_size": 2, "overlap": 0.25}


def brightness(images):
    """A network that is sure where it is bright."""
    return torch.cat([-images, images], dim=1)


def columns(images):
    """A network that believes in the left half of its window only."""
    position = torch.arange(images.shape[-1]).expand(images.shape[0], 1, *images.shape[-2:])
    left = (position < images.shape[-1] // 2).float() * 4 - 2
    return torch.cat([-left, left], dim=1)


@pytest.fixture
def image():
    torch.manual_seed(0)
    return torch.nn.functional.interpolate(torch.randn(1, 1, 5, 6), (37, 41), mode="bilinear") * 3


def test_one_view_is_the_plain_inferer(image):
    expected = SlidingWindowInferer(**WINDOWS)(image, brightness)
    assert torch.equal(ScaledWindowInferer(**WINDOWS)(image, brightness), expected)


def test_scales_agree_on_a_smooth_image(image):
    plain = SlidingWindowInferer(**WINDOWS)(image, brightness).softmax(dim=1)
    scaled = ScaledWindowInferer([0.5, 1.0, 1.75], **WINDOWS)(image, brightness)
    assert scaled.shape == plain.shape
    # The soft-max of what comes back is the average of probabilities.
    assert torch.allclose(scaled.exp().sum(dim=1), torch.ones(1, 37, 41), atol=1e-5)
    assert (scaled.softmax(dim=1) - plain).abs().mean() < 0.05


def test_flip_makes_the_answer_symmetric():
    images = torch.zeros(1, 1, 16, 16)
    lopsided = ScaledWindowInferer(**WINDOWS)(images, columns).softmax(dim=1)
    assert not torch.allclose(lopsided, lopsided.flip(-1))
    both = ScaledWindowInferer(flip=True, **WINDOWS)(images, columns).softmax(dim=1)
    assert torch.allclose(both, both.flip(-1))
    assert torch.allclose(both, torch.full_like(both, 0.5))


def test_single_logit(image):
    both = ScaledWindowInferer(flip=True, **WINDOWS)(image, lambda images: images)
    assert torch.allclose(both.sigmoid(), image.sigmoid(), atol=1e-5)


@pytest.mark.parametrize("scales", [[], [0.0], [-1.0], [float("nan")]])
def test_scales_are_positive(scales):
    with pytest.raises(ValueError, match="scales"):
        ScaledWindowInferer(scales, **WINDOWS)
