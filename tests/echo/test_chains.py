import numpy as np
import pytest
import torch

from custom_apps.echo import camus
from custom_apps.echo.buv import buv_records
from custom_apps.echo.camus import camus_records
from custom_apps.echo.chains import BuvClips, CamusClips, EchoNetClips, EchoNetSegmentation
from custom_apps.echo.clip_dataset import ClipDataset
from custom_apps.echo.echonet import echonet_records
from custom_apps.echo.video_file import read_video


def test_evaluation_clips_are_normalized_gray_frames(echonet_phantom):
    records = echonet_records(echonet_phantom, "TEST")
    item = ClipDataset(records, EchoNetClips(training=False, length=5, period=3, size=48))[0]
    frames = read_video(records[0]["image"]).frames[:15:3].astype(np.float64)
    expected = (frames @ [0.2989, 0.587, 0.114] - 32.843) / 50.020
    assert np.allclose(item["image"][0].numpy(), expected, atol=1e-5)
    assert item["frame_indices"].tolist() == [0, 3, 6, 9, 12]


def test_missing_frames_are_zero_after_normalization(echonet_phantom):
    records = echonet_records(echonet_phantom, "TEST")
    chain = EchoNetClips(training=False, length=20, period=3, size=24, pad="zero")
    item = ClipDataset(records, chain)[0]
    assert not item["real_frames"].all()
    assert item["image"][0, ~item["real_frames"]].abs().max() == 0
    assert item["image"][0, item["real_frames"]].abs().amax((1, 2)).min() > 0


def test_several_clips(echonet_phantom):
    records = echonet_records(echonet_phantom, "TEST")
    chain = EchoNetClips(training=False, length=4, size=24, start="spread", clips=3)
    assert ClipDataset(records, chain)[0]["image"].shape == (3, 1, 4, 24, 24)


@pytest.mark.parametrize(
    "options", [{}, {"augmentation": True}, {"median": True, "gaussian": True}, {"period": [1, 2]}, {"size": (24, 40)}]
)
def test_training_options(echonet_phantom, options):
    options = {"length": 4, "size": 24, "padding": 3} | options
    dataset = ClipDataset(echonet_records(echonet_phantom, "TRAIN"), EchoNetClips(**options))
    size = options["size"] if isinstance(options["size"], tuple) else (options["size"],) * 2
    first = dataset[(0, 0, 0)]["image"]
    assert first.shape == (1, 4, *size)
    assert first.isfinite().all()
    assert first.std() > 0.2
    assert not torch.equal(first, dataset[(1, 0, 0)]["image"])


def test_segmentation_masks_follow_size_and_shift(echonet_phantom):
    records = echonet_records(echonet_phantom, "TRAIN", "segmentation")

    def mask(**options):
        dataset = ClipDataset(records, EchoNetSegmentation(length=4, padding=6, **options))
        return dataset[(0, 1, 0)]["label"]

    plain = mask(training=False, size=48)
    assert mask(training=False, size=96).sum() == 4 * plain.sum()
    moved = mask(size=48)
    assert not torch.equal(moved, plain)
    # The ventricle is not near the border: shifted, it keeps all of its pixels.
    assert torch.equal(moved.sum((1, 2)), plain.sum((1, 2)))
    assert torch.equal(mask(size=48, shift_label=False), plain)


def test_camus(camus_phantom):
    records = camus_records(camus_phantom, None, "train")
    item = ClipDataset(records, CamusClips(training=False))[0]
    array = np.load(records[0]["image"])
    assert item["image"].shape == (1, 64, 112, 112)
    expected = (array[:, 0] - camus.GRAY_MEAN) / camus.GRAY_STD
    assert np.allclose(item["image"][0].numpy(), expected, atol=1e-5)
    window = ClipDataset(records, CamusClips(training=False, length=10, size=32))[0]["image"]
    assert torch.equal(window, item["image"][:, :10, :32, :32])
    dataset = ClipDataset(records, CamusClips())
    assert not torch.equal(dataset[(0, 0, 0)]["image"], item["image"])
    assert torch.equal(dataset[(0, 0, 0)]["image"], dataset[(0, 0, 0)]["image"])
    # Outside of a moved frame the gray value is 0 before normalization.
    assert dataset[(0, 0, 0)]["image"].min() == pytest.approx(-camus.GRAY_MEAN / camus.GRAY_STD, abs=1e-5)


def test_buv(buv_phantom):
    records = buv_records(buv_phantom, "trainlist01.txt")
    item = ClipDataset(records, BuvClips(training=False, length=8, clips=2))[1]
    assert item["image"].shape == (1, 8, 112, 112)
    assert item["label"].tolist() == [1]
    assert item["label"].dtype == torch.float32
    dataset = ClipDataset(records, BuvClips(length=8, size=56))
    results = [dataset[(epoch, 1, 0)]["image"] for epoch in range(3)]
    assert all(result.shape == (1, 8, 56, 56) and type(result) is torch.Tensor for result in results)
    assert not torch.equal(results[0], results[1])
    assert torch.equal(results[2], dataset[(2, 1, 0)]["image"])
