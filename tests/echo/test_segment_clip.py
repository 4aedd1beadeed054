import pytest
import torch

from custom_apps.echo.segment_clip import SegmentClipd, segment_bounds


def numbered(frames):
    return {"image": torch.arange(float(frames))[None, :, None, None].expand(1, -1, 2, 3).clone()}


def test_middle_of_the_video():
    item = SegmentClipd(length=4, period=2, clips=1, random=False)(numbered(21))
    # 21 - 6 frames of room, half of which before.
    assert item["image"][0, :, 0, 0].tolist() == [7, 9, 11, 13]


def test_segments_share_the_frames():
    assert segment_bounds(10, 4).tolist() == [0, 2, 5, 8, 10]
    item = SegmentClipd(length=6, period=1, clips=3, random=False)(numbered(30))
    assert item["frame_indices"].tolist() == [4, 5, 14, 15, 24, 25]


def test_random_starts_stay_within_their_segment():
    transform = SegmentClipd(length=6, period=2, clips=3)
    transform.set_random_state(seed=0)
    draws = torch.stack([transform(numbered(31))["frame_indices"] for _ in range(200)]).view(200, 3, 2)
    assert (draws[..., 1] - draws[..., 0] == 2).all()
    bounds = segment_bounds(31, 3)
    for segment in range(3):
        inside = draws[:, segment]
        assert inside.min() == bounds[segment]
        assert inside.max() == bounds[segment + 1] - 1


def test_short_videos_are_looped():
    item = SegmentClipd(length=6, period=2, clips=2, random=False)(numbered(5))
    assert item["frame_indices"].max() < 12
    assert torch.equal(item["image"][0, :, 0, 0].long(), item["frame_indices"] % 5)
    assert torch.equal(item["real_frames"], item["frame_indices"] < 5)


@pytest.mark.parametrize("frames", [1, 7, 16, 17, 33])
@pytest.mark.parametrize("clips", [1, 2, 4, 8])
def test_there_is_always_room(frames, clips):
    transform = SegmentClipd(length=8, period=[1, 2, 3], clips=clips)
    transform.set_random_state(seed=frames)
    for _ in range(10):
        item = transform(numbered(frames))
        assert item["image"].shape == (1, 8, 2, 3)
        assert (item["frame_indices"].diff() > 0).all()


def test_length_must_divide():
    with pytest.raises(ValueError, match="multiple of clips"):
        SegmentClipd(length=8, clips=3)
