import math

import pytest
import torch
from torch import nn

from custom_apps.echo.lv_inferer import VentricleInferer


class Bright(nn.Module):
    """Calls bright pixels ventricle; remembers the shapes it saw."""

    def __init__(self, crop: int = 0):
        super().__init__()
        self.crop, self.shapes = crop, []

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(clips.shape))
        clips = clips[..., : clips.shape[-1] - self.crop]
        return torch.cat([torch.zeros_like(clips), clips], 1)


def moving_square(frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A square that drifts half a pixel a frame; the video (1, 1, F, H, W) and where it is."""
    mask = torch.zeros(1, 1, frames, 12, 30)
    for frame in range(frames):
        mask[..., frame, 3:9, frame // 2 : frame // 2 + 6] = 1
    return 2 * mask - 1, mask.to(torch.uint8)


@pytest.mark.parametrize("window_frames", [8, None])
@pytest.mark.parametrize("frames", [5, 8, 9, 37])
def test_every_frame_of_any_video_is_segmented(frames, window_frames):
    video, mask = moving_square(frames)
    network = Bright()
    found = VentricleInferer(length=8, window_frames=window_frames, batch_size=2)(video, network)
    assert found.dtype == torch.uint8
    torch.testing.assert_close(found, mask)
    assert all(shape[2:] == (8, 12, 30) and shape[0] <= 2 for shape in network.shapes)


def test_windows_are_drawn_out_to_the_length_of_a_clip():
    video, mask = moving_square(20)
    network = Bright()
    found = VentricleInferer(length=16, window_frames=6)(video, network)
    assert network.shapes[0][2] == 16
    # Interpolation in time blurs a moving border by less than a frame's way.
    assert (found != mask).float().sum() <= 0.05 * mask.sum()
    still = video[:, :, :1].expand(-1, -1, 20, -1, -1)
    assert torch.equal(VentricleInferer(length=16, window_frames=6)(still, network), mask[:, :, :1].expand_as(still))


def test_windows_may_be_longer_than_a_clip():
    video, mask = moving_square(20)
    found = VentricleInferer(length=8, window_frames=12)(video, Bright())
    assert (found != mask).float().sum() <= 0.1 * mask.sum()


def test_logits_of_overlapping_windows_are_averaged():
    class Counter(nn.Module):
        """Says yes in the first call and, more weakly, no in the second."""

        calls = 0

        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            margin = torch.full_like(clips, 3.0 if self.calls == 1 else -1.0)
            return torch.cat([torch.zeros_like(clips), margin], 1)

    found = VentricleInferer(length=4, window_frames=4, batch_size=1)(torch.zeros(1, 1, 6, 2, 2), Counter())
    assert found[0, 0, :, 0, 0].tolist() == [1, 1, 1, 1, 0, 0]


def test_pixels_behind_the_last_patch_are_background():
    video = torch.ones(1, 1, 8, 6, 10)
    found = VentricleInferer(length=8, window_frames=8)(video, Bright(crop=3))
    assert found[..., :7].all()
    assert not found[..., 7:].any()


def test_wrong_inputs():
    with pytest.raises(ValueError, match="one video"):
        VentricleInferer(length=8, window_frames=8)(torch.zeros(2, 1, 8, 4, 4), Bright())
    with pytest.raises(ValueError, match="window_frames"):
        VentricleInferer(length=8, window_frames=1)
    with pytest.raises(FloatingPointError, match="finite"):
        VentricleInferer(length=8, window_frames=8)(torch.full((1, 1, 8, 4, 4), math.nan), Bright())
