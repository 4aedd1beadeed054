import pytest
import torch

from custom_apps.seg.augmentation_resolution import RandChannelLowResolutiond


def make(**options):
    return RandChannelLowResolutiond(("image",), prob=1.0, channel_prob=1.0, **options)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("shape", [(9, 12, 7), (13, 8)])
def test_shape_is_kept_and_detail_lost(interpolation, shape):
    image = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    result = make(interpolation=interpolation, zoom=(0.5, 0.5))({"image": image})["image"]
    assert result.shape == image.shape
    assert result.dtype == torch.float32
    # Neighbours resemble each other more than before.
    assert result.diff(dim=-1).abs().mean() < 0.8 * image.diff(dim=-1).abs().mean()
    assert not torch.equal(result[0], result[1])


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_no_zoom_changes_nothing_and_smooth_images_survive(interpolation):
    ramp = torch.arange(16.0).view(1, 16, 1).expand(1, 16, 16).contiguous()
    same = make(interpolation=interpolation, zoom=(1.0, 1.0))({"image": ramp})["image"]
    torch.testing.assert_close(same, ramp, atol=1e-4, rtol=0)
    half = make(interpolation=interpolation, zoom=(0.5, 0.5))({"image": ramp})["image"]
    # Nearest sampling may shift by half a voxel but not tilt the ramp.
    inner = half[0, 4:-4, 8]
    torch.testing.assert_close(inner.diff(), torch.ones(7), atol=0.15, rtol=0)


def test_fixed_axes_keep_their_resolution():
    image = torch.zeros(1, 8, 16)
    image[0, ::2] = 1.0
    result = make(zoom=(0.5, 0.5), fixed_axes=(0,))({"image": image})["image"]
    assert torch.equal(result, image)
    assert not torch.equal(make(zoom=(0.5, 0.5))({"image": image})["image"], image)


def test_tiny_images_and_bad_arguments():
    result = make(zoom=(0.5, 0.5))({"image": torch.ones(1, 1, 2, 3)})["image"]
    assert result.shape == (1, 1, 2, 3)
    with pytest.raises(ValueError, match="interpolation"):
        make(interpolation="nearest")
