import numpy as np
import pytest
import torch

from custom_apps.echo.frames import GrayVideod, ResizeFramesd, SmoothFramesd, to_gray


def test_gray_is_the_weighted_sum_of_colors():
    video = torch.tensor([255, 0, 100], dtype=torch.uint8)[:, None, None, None].expand(3, 2, 4, 5)
    gray = GrayVideod("image")({"image": video})["image"]
    assert gray.shape == (1, 2, 4, 5)
    assert gray.dtype == torch.float32
    assert gray.unique().tolist() == pytest.approx([0.2989 + 0.114 * 100 / 255])


def test_gray_videos_are_scaled_and_floats_stay():
    video = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    assert to_gray(video).flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert to_gray(torch.full((2, 1, 3, 4, 5), 0.3)).unique().tolist() == pytest.approx([0.3])
    # A clip axis in front.
    assert to_gray(torch.zeros(2, 3, 6, 4, 5, dtype=torch.uint8)).shape == (2, 1, 6, 4, 5)
    with pytest.raises(ValueError, match="4 channels"):
        to_gray(torch.zeros(4, 2, 3, 3))


def test_resizing_keeps_means_and_averages_when_it_shrinks():
    frames = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    small = ResizeFramesd("image", (10, 15))({"image": frames})["image"]
    assert small.shape == (1, 3, 10, 15)
    # The triangle filter spans two output pixels: far less noise is left than single pixels have.
    assert small.std() < 0.4 * frames.std()
    assert small.mean() == pytest.approx(frames.mean().item(), abs=0.01)
    assert ResizeFramesd("image", 60)({"image": torch.rand(2, 1, 3, 40, 40)})["image"].shape == (2, 1, 3, 60, 60)


def test_resizing_to_the_same_size_changes_nothing():
    frames = torch.rand(1, 3, 21, 33)
    assert torch.equal(ResizeFramesd("image", (21, 33))({"image": frames})["image"], frames)


def test_label_maps_keep_their_values():
    label = torch.zeros(2, 20, 20, dtype=torch.int64)
    label[0, 5:15, 4:12] = 1
    label[1, 8:12] = 1
    resized = ResizeFramesd("label", (40, 30))({"label": label})["label"]
    assert resized.dtype == torch.int64
    assert resized.unique().tolist() == [0, 1]
    assert resized[0].sum() == 20 * 12
    assert resized[1].sum() == 8 * 30


def brute_force(frame, weigh, mode):
    padded = np.pad(frame, 1, mode=mode)
    return np.array([[weigh(padded[i : i + 3, j : j + 3]) for j in range(frame.shape[1])] for i in range(len(frame))])


def test_median_and_gaussian_of_each_frame():
    frames = torch.rand(1, 2, 6, 7, generator=torch.Generator().manual_seed(1))
    median = SmoothFramesd("image", median=True)({"image": frames})["image"]
    for ours, frame in zip(median[0].numpy(), frames[0].numpy(), strict=True):
        assert np.allclose(ours, brute_force(frame, np.median, "edge"))
    sigma = 0.8
    side = np.exp(-1 / (2 * sigma**2))
    kernel = np.array([side, 1, side]) / (1 + 2 * side)
    blurred = SmoothFramesd("image", gaussian=True, gaussian_sigma=sigma)({"image": frames})["image"]
    for ours, frame in zip(blurred[0].numpy(), frames[0].numpy(), strict=True):
        expected = brute_force(frame, lambda window: (window * np.outer(kernel, kernel)).sum(), "reflect")
        assert np.allclose(ours, expected, atol=1e-6)
