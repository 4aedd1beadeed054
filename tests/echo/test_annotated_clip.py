import numpy as np
import pytest
import torch

from custom_apps.common.errors import DataError
from custom_apps.echo.annotated_clip import AnnotatedClipd
from custom_apps.echo.tracings import TracedPair, Tracing, lv_mask


def rows(width):
    return np.array([[10, 2, 10, 16], [10 - width, 4, 10 + width, 4], [10 - width, 15, 10 + width, 15]], np.float32)


def item(diastole, systole, frames=30):
    video = torch.arange(float(frames))[None, :, None, None].expand(1, -1, 20, 24).clone()
    tracings = TracedPair(Tracing(diastole, rows(6)), Tracing(systole, rows(3)))
    return {"image": video, "tracings": tracings, "case": "video_a"}


def test_clip_runs_from_the_first_traced_frame_to_the_last():
    result = AnnotatedClipd(length=9)(item(diastole=20, systole=4))
    assert result["image"].shape == (1, 9, 20, 24)
    assert result["image"][0, :, 0, 0].tolist() == pytest.approx([4, 6, 8, 10, 12, 14, 16, 18, 20])
    assert result["label_frame"].tolist() == [8, 0]
    assert AnnotatedClipd(length=9)(item(diastole=4, systole=20))["label_frame"].tolist() == [0, 8]


def test_labels_are_diastole_and_systole():
    result = AnnotatedClipd(length=5)(item(diastole=3, systole=12))
    assert result["label"].dtype == torch.int64
    assert torch.equal(result["label"][0], torch.from_numpy(lv_mask(rows(6), (20, 24))).long())
    assert result["label"][0].sum() > result["label"][1].sum() > 0
    assert "tracings" not in result


def test_published_clips_stop_before_the_later_traced_frame():
    result = AnnotatedClipd(length=4, include_end=False)(item(diastole=10, systole=4))
    assert result["image"][0, :, 0, 0].tolist() == pytest.approx([4, 4 + 5 / 3, 4 + 10 / 3, 9])
    assert result["label_frame"].tolist() == [3, 0]


def test_neighboring_and_equal_frames():
    result = AnnotatedClipd(length=3)(item(diastole=5, systole=6))
    assert result["image"][0, :, 0, 0].tolist() == pytest.approx([5, 5.5, 6])
    result = AnnotatedClipd(length=3)(item(diastole=5, systole=5))
    assert result["image"][0, :, 0, 0].tolist() == [5, 5, 5]
    with pytest.raises(DataError, match="video_a"):
        AnnotatedClipd(length=3, include_end=False)(item(diastole=5, systole=5))


@pytest.mark.parametrize(("diastole", "systole"), [(30, 4), (2, 31), (-1, 4)])
def test_frames_beyond_the_video(diastole, systole):
    with pytest.raises(DataError, match=r"video_a: frames .* are traced"):
        AnnotatedClipd()(item(diastole, systole))
