import math

import numpy as np
import pytest
import torch
from torch import nn

from custom_apps.echo.chains import CamusClips, EchoNetClips
from custom_apps.echo.clip_protocols import ClipInferer, ClipProtocols, beat_by_beat


class FirstFrame(nn.Module):
    """Predicts the mean of a clip's first frame, and remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.clips = []

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        self.clips.append(clips)
        return clips[:, :, 0].mean((1, 2, 3))[:, None]


def numbered_video(frames: int) -> torch.Tensor:
    return torch.arange(float(frames))[None, None, :, None, None].expand(1, 1, frames, 3, 5).clone()


def test_starts_of_a_long_video():
    protocols = ClipProtocols(length=4, period=3, clips=3, stride=2)
    # The last clip is frames 10, 13, 16, 19.
    assert protocols.starts_of("one_clip", 20).tolist() == [0]
    assert protocols.starts_of("several_clips", 20).tolist() == [0, 5, 10]
    assert protocols.starts_of("all_clips", 20).tolist() == [0, 2, 4, 6, 8, 10]
    assert protocols.starts(20).tolist() == [0, 2, 4, 5, 6, 8, 10]


def test_starts_of_a_short_video_are_those_of_the_extended_one():
    protocols = ClipProtocols(length=4, period=3, clips=5, stride=1)
    assert protocols.starts(7).tolist() == protocols.starts(12).tolist() == [0, 1, 2]
    # Integer truncation; more clips than starts.
    assert protocols.starts_of("several_clips", 7).tolist() == [0, 0, 1, 1, 2]


def test_every_clip_is_predicted_once_in_small_batches():
    protocols, network = ClipProtocols(length=4, period=3, clips=3, stride=2), FirstFrame()
    found = ClipInferer(protocols, batch_size=3)(numbered_video(20), network)
    assert found.tolist() == [[0, 2, 4, 5, 6, 8, 10]]
    assert [len(clips) for clips in network.clips] == [3, 3, 1]
    assert network.clips[1][1, 0, :, 0, 0].tolist() == [6, 9, 12, 15]
    assert protocols.averages(found[0].tolist(), 20) == {"one_clip": 0, "several_clips": 5, "all_clips": 5}


def test_blocks_do_not_change_the_numbers():
    torch.manual_seed(0)
    video, protocols = torch.randn(1, 2, 31, 4, 4), ClipProtocols(length=5, period=2, clips=4)
    one, many = (ClipInferer(protocols, batch_size=size)(video, FirstFrame()) for size in (1, 50))
    torch.testing.assert_close(one, many)


@pytest.mark.parametrize(("pad", "expected"), [("loop", [0, 1, 2, 3, 4, 0, 1, 2]), ("zero", [0, 1, 2, 3, 4, 0, 0, 0])])
def test_short_videos_are_extended(pad, expected):
    network = FirstFrame()
    ClipInferer(ClipProtocols(length=4, period=2, clips=None), pad=pad)(numbered_video(5), network)
    assert network.clips[0][0, 0, :, 0, 0].tolist() == expected[::2]
    assert network.clips[0][1, 0, :, 0, 0].tolist() == expected[1::2]


def test_the_average_over_clips_is_taken_before_the_error():
    protocols = ClipProtocols(length=2, period=1, clips=None)
    averages = protocols.averages([40.0, 60.0, 50.0], frames=4)
    assert averages == {"one_clip": 40.0, "all_clips": 50.0}


def test_only_the_protocols_wanted():
    assert ClipProtocols(clips=None, stride=None).names == ["one_clip"]
    assert ClipProtocols(clips=None, one_clip=False).names == ["all_clips"]
    with pytest.raises(ValueError, match="at least one"):
        ClipProtocols(clips=None, stride=None, one_clip=False)
    with pytest.raises(ValueError, match="stride"):
        ClipProtocols(stride=0)


def test_protocols_follow_the_chain():
    protocols = ClipProtocols.of_chain(EchoNetClips(training=False, length=16, period=3), length=99, clips=4)
    assert (protocols.length, protocols.period, protocols.clips) == (16, 3, 4)
    arrays = ClipProtocols.of_chain(CamusClips(training=False, length=64), length=64)
    assert (arrays.length, arrays.period) == (64, 1)
    assert arrays.starts(64).tolist() == [0]


def test_wrong_inputs_are_refused():
    inferer = ClipInferer(ClipProtocols())
    with pytest.raises(ValueError, match="one video"):
        inferer(torch.zeros(2, 1, 9, 4, 4), FirstFrame())
    with pytest.raises(ValueError, match="pad"):
        ClipInferer(ClipProtocols(), pad="mirror")


def test_beat_by_beat():
    starts, predictions = np.arange(10), np.arange(10.0) * 10
    assert beat_by_beat(starts, predictions, [36, 40], lead=32) == 60
    # The first beat comes too early for its lead, the last clip would end after the video.
    assert beat_by_beat(starts, predictions, [20, 34, 60], lead=32) == 10
    assert math.isnan(beat_by_beat(starts, predictions, [60]))
    assert math.isnan(beat_by_beat(starts, predictions, []))
    assert math.isnan(beat_by_beat(starts[::4], predictions[::4], [39]))
    assert beat_by_beat(starts[::4], predictions[::4], [39], tolerance=2) == 80
