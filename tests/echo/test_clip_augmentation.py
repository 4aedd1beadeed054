import math

import numpy as np
import pytest
import torch

from custom_apps.echo.clip_augmentation import (
    RandClipAffined,
    RandClipJitterd,
    RandClipResizedCropd,
    affine_matrix,
    warp,
)


def frames_alike(clip):
    return torch.equal(clip, clip[:, :1].expand_as(clip))


def test_matrix_of_each_part():
    assert np.allclose(affine_matrix(0, (3, -2), 1), [[1, 0, 3], [0, 1, -2]])
    assert np.allclose(affine_matrix(0, (0, 0), 1.5), [[1.5, 0, 0], [0, 1.5, 0]])
    # Clockwise as seen, since y points down: what is on the right comes to the bottom.
    assert np.allclose(affine_matrix(90, (0, 0), 1)[:, :2] @ [1, 0], [0, 1])
    assert np.allclose(affine_matrix(0, (0, 0), 1, (45, 0))[:, :2], [[1, -1], [0, 1]])
    assert np.allclose(affine_matrix(0, (0, 0), 1, (0, 45))[:, :2], [[1, 0], [-1, 1]])


def test_whole_pixel_shift_and_quarter_turn_are_exact():
    frame = torch.arange(1.0, 50).view(1, 1, 7, 7)
    moved = warp(frame, affine_matrix(0, (2, -1), 1), "nearest")
    assert torch.equal(moved[0, 0, :6, 2:], frame[0, 0, 1:, :5])
    assert moved[0, 0, 6].abs().max() == 0
    assert moved[0, 0, :, :2].abs().max() == 0
    assert torch.equal(warp(frame, affine_matrix(90, (0, 0), 1), "nearest"), frame.rot90(-1, (-2, -1)))


def test_frames_that_are_not_square_keep_their_proportions():
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(80.0), indexing="ij")
    disc = (((x - 39.5) ** 2 + (y - 19.5) ** 2) < 100).float()[None, None]
    turned = warp(disc, affine_matrix(30, (0, 0), 1), "bilinear")
    assert (turned - disc).abs().mean() < 0.01
    larger = warp(disc, affine_matrix(0, (0, 0), 1.5), "bilinear")
    assert larger.sum() == pytest.approx(2.25 * disc.sum().item(), rel=0.02)


def test_one_draw_for_all_frames_and_for_the_label():
    frame = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    frame = (frame > 0.5).float()
    transform = RandClipAffined(("image", "label"), 15, 0.2, (0.8, 1.2), 10)
    transform.set_random_state(seed=0)
    moved = transform({"image": frame.expand(1, 5, -1, -1), "label": frame[0].long()})
    assert frames_alike(moved["image"])
    assert moved["label"].dtype == torch.int64
    assert torch.equal(moved["image"][0, 0].long(), moved["label"][0])
    assert not torch.equal(moved["image"][0, 0], frame[0, 0])


def test_draws_stay_in_their_ranges():
    transform = RandClipAffined("image", 15, 0.1, (0.8, 1.1))
    transform.set_random_state(seed=1)
    matrices = np.stack([transform.randomize((40, 60)) for _ in range(400)])
    factors = np.sqrt(np.linalg.det(matrices[:, :, :2]))
    angles = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert 0.8 <= factors.min() < 0.81
    assert 1.09 < factors.max() <= 1.1
    assert 14 < np.abs(angles).max() <= 15
    assert (matrices[:, :, 2] == np.rint(matrices[:, :, 2])).all()
    assert np.abs(matrices[:, 0, 2]).max() == 6
    assert np.abs(matrices[:, 1, 2]).max() == 4
    # Without shear, rotation and scaling only.
    assert np.allclose(matrices[:, 0, 0], matrices[:, 1, 1])


def test_jitter_is_one_draw_and_stays_in_range():
    clip = torch.linspace(0.3, 0.6, 30).view(1, 1, 5, 6).expand(1, 4, -1, -1)
    transform = RandClipJitterd()
    transform.set_random_state(seed=0)
    results = [transform({"image": clip})["image"] for _ in range(50)]
    assert all(frames_alike(result) for result in results)
    ratios = [result.mean().item() / clip.mean().item() for result in results]
    assert 0.8 <= min(ratios) < 0.85
    assert 1.15 < max(ratios) <= 1.2
    original = (clip.std() / clip.mean()).item()
    spreads = [(result.std() / result.mean()).item() / original for result in results]
    assert 0.8 - 1e-4 <= min(spreads) < 0.85
    assert 1.15 < max(spreads) <= 1.2 + 1e-4
    bright = RandClipJitterd(brightness=0.5)
    bright.set_random_state(seed=1)
    assert max(bright({"image": torch.ones(1, 1, 2, 2)})["image"].max().item() for _ in range(10)) == 1


def test_boxes_of_the_resized_crop():
    transform = RandClipResizedCropd("image", size=(12, 16), area=(0.5, 0.9))
    transform.set_random_state(seed=0)
    for _ in range(200):
        top, left, height, width = transform.randomize((50, 70))
        assert 0 <= top <= 50 - height
        assert 0 <= left <= 70 - width
        assert 0.48 <= height * width / 3500 <= 0.92
        assert 0.72 <= width / height <= 1.37
    clip = torch.rand(1, 1, 50, 70).expand(1, 3, -1, -1)
    result = transform({"image": clip})["image"]
    assert result.shape == (1, 3, 12, 16)
    assert frames_alike(result)


def test_resized_crop_of_an_extreme_frame_falls_back_to_its_middle():
    transform = RandClipResizedCropd("image", area=(1.0, 1.0))
    transform.set_random_state(seed=0)
    assert transform.randomize((10, 100)) == (0, 43, 10, 13)
    assert transform.randomize((100, 10)) == (43, 0, 13, 10)


def test_states_repeat_draws():
    clip = torch.rand(1, 2, 20, 20)
    for transform in (RandClipAffined(), RandClipJitterd(), RandClipResizedCropd(size=16)):
        results = []
        for seed in (3, 3, 4):
            transform.set_random_state(seed=seed)
            results.append(transform({"image": clip})["image"])
        assert torch.equal(results[0], results[1])
        assert not torch.equal(results[0], results[2])


def test_interpolation_is_checked():
    with pytest.raises(ValueError, match="interpolation"):
        RandClipAffined(interpolation="cubic")
    assert math.isclose(RandClipAffined(scale=None).scale[0], 1)
