import math

import numpy as np
import pytest
import torch
from scipy.ndimage import center_of_mass

from custom_apps.brain.augmentation import RandChannelGammad, RandVolumeAffined, moved
from custom_apps.brain.augmentation_artifacts import RandAnisotropyd, RandMotiond


def block(shape=(2, 21, 21, 21)):
    volume = torch.full(shape, -1.0)
    volume[:, 8:13, 8:13, 14:17] = 2.0
    volume[1] *= 3
    return volume


def test_no_motion_changes_nothing():
    volume = torch.randn(2, 6, 7, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(moved(volume, (0, 0, 0)), volume, atol=1e-5)


def test_outside_is_the_smallest_value_of_each_channel():
    result = moved(block(), (math.pi / 4, 0, 0))
    assert result[0, 0, 0, 0] == pytest.approx(-1)
    assert result[1, 0, 0, 0] == pytest.approx(-3)


def test_shift_and_growth():
    center = center_of_mass((block()[0] + 1).numpy())
    shifted = center_of_mass((moved(block(), (0, 0, 0), shift_voxels=(2, -1, 0))[0] + 1).numpy())
    assert np.allclose(np.subtract(shifted, center), (2, -1, 0), atol=0.05)
    grown = moved(block(), (0, 0, 0), factors=(1.3, 1.0, 1.0))[0] + 1
    assert float(grown.sum()) == pytest.approx(1.3 * float((block()[0] + 1).sum()), rel=0.05)


def test_all_keys_and_channels_move_alike():
    transform = RandVolumeAffined(["image", "target"])
    transform.set_random_state(3)
    volume = block()
    result = transform({"image": volume, "target": volume.clone()})
    assert torch.equal(result["image"], result["target"])
    assert torch.allclose(result["image"][0] * 3, result["image"][1], atol=1e-4)
    assert not torch.allclose(result["image"], volume)


def test_draws_of_the_matrix_are_within_their_ranges():
    transform = RandVolumeAffined()
    transform.set_random_state(0)
    draws = [transform.randomize() for _ in range(2000)]
    angles = np.degrees([draw[0] for draw in draws])
    factors = np.array([draw[1] for draw in draws])
    assert np.abs(angles).max() <= 10
    assert angles.std() == pytest.approx(10 / math.sqrt(3), rel=0.05)
    assert factors.min() >= 0.9
    assert factors.max() <= 1.1
    assert factors.std(axis=0) == pytest.approx(np.full(3, 0.1 / math.sqrt(3)), rel=0.08)


def test_gamma_keeps_signs_and_draws_for_each_channel():
    transform = RandChannelGammad(["image", "target"])
    transform.set_random_state(1)
    volume = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0]).expand(4, 5).reshape(4, 5, 1, 1)
    result = transform({"image": volume, "target": volume})
    powers = torch.log(result["image"][:, 4, 0, 0]) / math.log(2)
    assert len(set(np.round(powers.numpy(), 5))) == 4
    assert ((powers.log().abs()) <= 0.3 + 1e-6).all()
    assert torch.allclose(result["image"], volume.sign() * volume.abs() ** powers.view(4, 1, 1, 1))
    assert torch.equal(result["image"], result["target"])


def test_anisotropy_coarsens_one_axis():
    transform = RandAnisotropyd(downsampling=(2.0, 2.0))
    transform.set_random_state(0)
    axis, _ = RandAnisotropyd(downsampling=(2.0, 2.0)).set_random_state(0).randomize()
    volume = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    result = transform({"image": volume})["image"]
    assert result.shape == volume.shape
    rough = [float(result.diff(dim=d).square().mean()) for d in (1, 2, 3)]
    assert int(np.argmin(rough)) == axis


def test_motion_leaves_a_ghost_but_keeps_the_mean():
    transform = RandMotiond()
    transform.set_random_state(0)
    volume = block().double() + 1
    result = transform({"image": volume})["image"]
    assert result.shape == volume.shape
    assert result.dtype == volume.dtype
    assert torch.isfinite(result).all()
    assert not torch.allclose(result, volume, atol=0.1)
    still = RandMotiond(degrees=(0, 0), shift_mm=(0, 0))
    assert torch.allclose(still({"image": volume})["image"], volume, atol=1e-4)
