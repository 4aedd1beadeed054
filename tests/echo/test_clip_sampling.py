import pytest
import torch

from custom_apps.common.errors import DataError
from custom_apps.echo.clip_sampling import SampleClipd, clip_starts, spread_starts


def numbered(frames, channels=1, size=(3, 2)):
    """A video whose frame i is i everywhere, from 1."""
    video = torch.arange(1, frames + 1).float()[None, :, None, None]
    return {"image": video.expand(channels, -1, *size).clone(), "case": "numbered"}


def first_pixels(clip):
    return clip[..., 0, :, 0, 0].tolist()


def test_first_clip():
    item = SampleClipd(length=4, period=3, start="first")(numbered(20, channels=2))
    assert item["image"].shape == (2, 4, 3, 2)
    assert first_pixels(item["image"]) == [1, 4, 7, 10]
    assert item["frame_indices"].tolist() == [0, 3, 6, 9]
    assert item["real_frames"].all()


def test_random_starts_reach_every_admissible_frame_and_no_other():
    sample = SampleClipd(length=3, period=2)
    sample.set_random_state(seed=0)
    starts = {int(sample(numbered(9))["frame_indices"][0]) for _ in range(200)}
    # The last clip is frames 4, 6, 8.
    assert starts == {0, 1, 2, 3, 4} == set(clip_starts(9, 3, 2).tolist())


def test_the_last_frame_of_a_fitting_video_may_be_used():
    # The published rule leaves period - 1 frames beyond the clip when the video is exactly length * period long.
    assert clip_starts(8, 4, 2).tolist() == [0, 1]
    assert clip_starts(7, 4, 2).tolist() == [0, 1]


def test_short_videos_are_looped_from_their_start():
    item = SampleClipd(length=5, period=2, start="first")(numbered(4))
    assert first_pixels(item["image"]) == [1, 3, 1, 3, 1]
    assert item["frame_indices"].tolist() == [0, 2, 4, 6, 8]
    assert item["real_frames"].tolist() == [True, True, False, False, False]


def test_short_videos_may_be_followed_by_zeros():
    item = SampleClipd(length=5, period=2, start="first", pad="zero")(numbered(4))
    assert first_pixels(item["image"]) == [1, 3, 0, 0, 0]


def test_time_pad_gives_short_videos_more_starts():
    assert clip_starts(4, 3, 2, time_pad=0).tolist() == [0, 1]
    assert clip_starts(4, 3, 2, time_pad=5).tolist() == list(range(7))
    # Long videos are not looped.
    assert clip_starts(30, 3, 2, time_pad=5).tolist() == list(range(26))


def test_spread_clips_go_from_the_first_to_the_last_start():
    sample = SampleClipd(length=3, period=2, start="spread", clips=4)
    item = sample(numbered(16))
    assert item["image"].shape == (4, 1, 3, 3, 2)
    # Starts 0 to 11, rounded down at thirds.
    assert item["frame_indices"][:, 0].tolist() == [0, 3, 7, 11] == spread_starts(16, 3, 2, 4).tolist()
    assert first_pixels(item["image"]) == [[1, 3, 5], [4, 6, 8], [8, 10, 12], [12, 14, 16]]
    assert SampleClipd(length=3, period=2, start="spread")(numbered(16))["image"].shape == (1, 3, 3, 2)


def test_all_clips():
    item = SampleClipd(length=3, period=2, start="all")(numbered(8))
    assert item["frame_indices"][:, 0].tolist() == [0, 1, 2, 3]
    item = SampleClipd(length=3, period=2, start="all", stride=3)(numbered(12))
    assert item["frame_indices"][:, 0].tolist() == [0, 3, 6]
    # One start is still a clip axis.
    assert SampleClipd(length=3, period=1, start="all")(numbered(3))["image"].shape == (1, 1, 3, 3, 2)


def test_period_is_drawn_from_a_list():
    sample = SampleClipd(length=2, period=[1, 3, 4], start="first")
    sample.set_random_state(seed=1)
    steps = {int(sample(numbered(9))["frame_indices"][1]) for _ in range(60)}
    assert steps == {1, 3, 4}


def test_a_state_repeats_its_draws():
    sample = SampleClipd(length=3)
    draws = []
    for _ in range(2):
        sample.set_random_state(seed=7)
        draws.append([int(sample(numbered(40))["frame_indices"][0]) for _ in range(5)])
    assert draws[0] == draws[1]
    assert len(set(draws[0])) > 1


def test_the_clip_is_a_copy():
    video = numbered(6)
    clip = SampleClipd(length=6, period=1, start="first")(video)["image"]
    clip.zero_()
    assert video["image"].min() == 1


def test_bad_input():
    with pytest.raises(DataError, match="numbered"):
        SampleClipd()(numbered(0))
    for options in ({"start": "middle"}, {"pad": "edge"}, {"length": 0}, {"period": [1, 0]}, {"time_pad": -1}):
        with pytest.raises(ValueError, match=r"must be"):
            SampleClipd(**options)
