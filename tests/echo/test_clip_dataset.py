import os
import pickle

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from custom_apps.common.errors import DataError
from custom_apps.echo.chains import EchoNetClips, EchoNetSegmentation
from custom_apps.echo.clip_dataset import ClipDataset
from custom_apps.echo.clip_sampling import SampleClipd
from custom_apps.echo.echonet import echonet_records
from custom_apps.echo.loading import LoadVideod


def training(root, seed=0, **options):
    return ClipDataset(echonet_records(root, "all"), EchoNetClips(length=6, size=48, padding=4), seed=seed, **options)


def same(first, second):
    return torch.equal(first["image"], second["image"]) and torch.equal(first["frame_indices"], second["frame_indices"])


def test_items(echonet_phantom):
    records = echonet_records(echonet_phantom, "TRAIN")
    dataset = ClipDataset(records, EchoNetClips(length=6, size=32))
    assert len(dataset) == len(records) == 4
    item = dataset[2]
    assert type(item["image"]) is torch.Tensor
    assert item["image"].shape == (1, 6, 32, 32)
    assert item["image"].dtype == torch.float32
    assert item["ef_percent"].tolist() == pytest.approx([records[2]["ef_percent"]])
    assert item["ef_percent"].dtype == torch.float32
    assert (item["case"], item["index"]) == (records[2]["case"], 2)


def test_segmentation_items(echonet_phantom):
    records = echonet_records(echonet_phantom, "TRAIN", "segmentation")
    item = ClipDataset(records, EchoNetSegmentation(length=6, size=48, padding=4))[1]
    assert item["image"].shape == (1, 6, 48, 48)
    assert item["label"].shape == (2, 48, 48)
    assert item["label"].dtype == item["label_frame"].dtype == torch.int64
    assert sorted(item["label_frame"].tolist()) == [0, 5]
    # The ventricle is darker than its surroundings in the frame that each mask belongs to.
    for mask, frame in zip(item["label"].bool(), item["label_frame"], strict=True):
        image = item["image"][0, frame]
        ring = torch.nn.functional.max_pool2d(mask[None].float(), 7, 1, 3)[0].bool() & ~mask
        assert image[mask].mean() < image[ring].mean() - 0.5


def test_an_item_is_a_function_of_seed_epoch_index_and_turn(echonet_phantom):
    first, second = training(echonet_phantom), training(echonet_phantom)
    # Another order, another worker's history and a pickled copy change nothing.
    _ = [second[i] for i in (5, 1)]
    copy = pickle.loads(pickle.dumps(second))
    for index in (0, 3, 7):
        assert same(first[(4, index, 0)], second[(4, index, 0)])
        assert same(first[(4, index, 0)], copy[(4, index, 0)])
    first.set_epoch(4)
    assert same(first[3], second[(4, 3, 0)])
    assert not same(first[3], second[(5, 3, 0)])
    assert not same(first[3], second[(4, 3, 1)])
    assert not same(first[3], training(echonet_phantom, seed=1)[(4, 3, 0)])


def test_kept_videos_give_the_same_items(echonet_phantom, tmp_path):
    plain = training(echonet_phantom)
    memory = training(echonet_phantom, cache="memory")
    disk = training(echonet_phantom, cache="disk", cache_dir=tmp_path / "cache")
    for index in range(len(plain)):
        for kept in (memory, disk, disk):
            assert same(plain[(2, index, 1)], kept[(2, index, 1)])
            assert plain[index]["fps"] == kept[index]["fps"]
    assert len(list((tmp_path / "cache").iterdir())) == len(plain)


def test_kept_files_follow_the_video(echonet_copy, tmp_path):
    dataset = training(echonet_copy, cache="disk", cache_dir=tmp_path / "cache")
    before, video = dataset[0], dataset.records[0]["image"]
    os.replace(dataset.records[1]["image"], video)
    assert not same(before, dataset[0])
    os.unlink(video)
    with pytest.raises(DataError, match=os.path.basename(video)):
        dataset[0]


def test_kept_videos_are_not_changed_by_transforms(echonet_phantom):
    dataset = training(echonet_phantom, cache="memory")
    before = dataset[(0, 0, 0)]
    dataset[(0, 0, 0)]["image"].zero_()
    assert same(before, dataset[(0, 0, 0)])


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_errors_name_the_file(echonet_copy, cache):
    records = echonet_records(echonet_copy, "all")
    path = records[1]["image"]
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) // 2)
    with pytest.raises(DataError, match=os.path.basename(path)):
        ClipDataset(records, EchoNetClips(length=6), cache=cache)[1]


def test_errors_of_transforms_become_errors_of_the_file(echonet_phantom):
    records = echonet_records(echonet_phantom, "TRAIN", "segmentation")
    records[0]["tracings"] = records[0]["tracings"]._replace(
        end_systole=type(records[0]["tracings"][1])(999, records[0]["tracings"][1].rows)
    )
    with pytest.raises(DataError, match=r"\.avi: frames .*999.* are traced"):
        ClipDataset(records, EchoNetSegmentation(length=6))[0]

    def failing(data):
        raise KeyError("surprise")

    dataset = ClipDataset(records, Compose([LoadVideod("image"), failing]))
    with pytest.raises(DataError, match=r"\.avi: cannot be loaded .KeyError: 'surprise'"):
        dataset[1]


def test_arguments(echonet_phantom, tmp_path):
    records = echonet_records(echonet_phantom, "all")
    with pytest.raises(ValueError, match="no records"):
        ClipDataset([], EchoNetClips())
    with pytest.raises(ValueError, match="cache must be"):
        ClipDataset(records, EchoNetClips(), cache="ram")
    with pytest.raises(ValueError, match="cache_dir"):
        ClipDataset(records, EchoNetClips(), cache="disk")
    with pytest.raises(ValueError, match="begins with LoadVideod"):
        ClipDataset(records, SampleClipd(), cache="memory")
    with pytest.raises(IndexError):
        ClipDataset(records, EchoNetClips())[len(records)]


def test_gray_decoding_differs_by_rounding_only(echonet_phantom):
    records = echonet_records(echonet_phantom, "VAL")
    color, gray = (
        ClipDataset(records, EchoNetClips(training=False, length=5, size=48, gray=gray))[0]["image"]
        for gray in (False, True)
    )
    assert (color - gray).abs().max() < 1.5 / 50
    assert np.isfinite(color.numpy()).all()
