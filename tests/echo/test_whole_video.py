from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from custom_apps.common.errors import DataError
from custom_apps.echo.buv import buv_records
from custom_apps.echo.camus import GRAY_MEAN, GRAY_STD, camus_records
from custom_apps.echo.chains import BuvClips, CamusClips, EchoNetClips, EchoNetSegmentation
from custom_apps.echo.clip_dataset import ClipDataset
from custom_apps.echo.echonet import echonet_records
from custom_apps.echo.video_file import read_video
from custom_apps.echo.whole_video import FrameBlocksd, normalization, uncut


@pytest.mark.parametrize("pad", ["loop", "zero"])
def test_every_frame_is_what_a_clip_has(echonet_phantom, pad):
    records = echonet_records(echonet_phantom, "TEST")
    chain = EchoNetClips(training=False, length=5, period=3, size=32, pad=pad, median=True)
    clip, whole = ClipDataset(records, chain)[1], ClipDataset(records, uncut(chain))[1]
    frames = len(read_video(records[1]["image"]).frames)
    assert whole["image"].shape == (1, frames, 32, 32)
    torch.testing.assert_close(whole["image"][:, :15:3], clip["image"], atol=1e-6, rtol=1e-6)
    assert whole["ef_percent"] == clip["ef_percent"]


def test_traced_frames_keep_their_masks(echonet_phantom):
    records = echonet_records(echonet_phantom, "TRAIN", "segmentation")
    chain = EchoNetSegmentation(training=False, length=6, size=48)
    clip, whole = ClipDataset(records, chain)[0], ClipDataset(records, uncut(chain))[0]
    assert torch.equal(whole["label"], clip["label"])
    pair = records[0]["tracings"]
    assert whole["label_frame"].tolist() == [pair.end_diastole.frame, pair.end_systole.frame]
    # The clip's frames at the labels are the video's traced frames.
    for position, frame in zip(clip["label_frame"], whole["label_frame"], strict=True):
        torch.testing.assert_close(clip["image"][:, position], whole["image"][:, frame], atol=1e-5, rtol=1e-5)


def test_a_traced_frame_beyond_the_end(echonet_phantom):
    record = echonet_records(echonet_phantom, "TRAIN", "segmentation")[0]
    pair = record["tracings"]
    record["tracings"] = pair._replace(end_systole=replace(pair.end_systole, frame=999))
    with pytest.raises(DataError, match=r"999"):
        ClipDataset([record], uncut(EchoNetSegmentation(training=False, size=24)))[0]


def test_other_data_sets(camus_phantom, buv_phantom):
    arrays = ClipDataset(camus_records(camus_phantom, split="test"), uncut(CamusClips(training=False, size=48)))[0]
    assert arrays["image"].shape == (1, 64, 48, 48)
    record = buv_records(buv_phantom, "testlist01.txt")[0]
    video = ClipDataset([record], uncut(BuvClips(training=False, length=4, size=24)))[0]
    assert video["image"].shape == (1, len(read_video(record["image"]).frames), 24, 24)


def test_the_size_of_the_file_is_known(echonet_phantom):
    record = echonet_records(echonet_phantom, "TEST")[0]
    item = uncut(EchoNetClips(training=False, size=(20, 30)))(record)
    assert item["frame_size"].tolist() == [48, 48]
    assert item["image"].shape[2:] == (20, 30)


def test_blocks_give_what_all_frames_at_once_give(echonet_phantom):
    chain = uncut(EchoNetClips(training=False, size=20, gaussian=True))
    blocks = next(step for step in chain.transforms if isinstance(step, FrameBlocksd))
    data = {"image": torch.randint(0, 256, (3, 70, 24, 24), dtype=torch.uint8), "label": 1}
    torch.testing.assert_close(blocks(data)["image"], blocks.steps(data)["image"])
    assert blocks(data)["label"] == 1


def test_normalization_is_the_data_sets_own():
    assert normalization(CamusClips(training=False)) == pytest.approx((GRAY_MEAN, GRAY_STD))
    assert normalization(EchoNetClips(training=False)) == pytest.approx((32.843 / 255, 50.020 / 255))
    with pytest.raises(ValueError, match="normalize"):
        normalization(Compose([]))


def test_a_chain_without_loading_is_refused():
    with pytest.raises(ValueError, match="LoadVideod"):
        uncut(Compose([np.asarray]))
