import json
import shutil

import numpy as np
import pytest

from custom_apps.common.errors import DataError
from custom_apps.thyroid.records import (
    class_folder_records,
    class_names,
    image_mask_records,
    pretraining_records,
    tn3k_records,
)

IMAGE = np.arange(64, dtype=np.uint8).reshape(8, 8)


def names(records):
    return [record["case"] for record in records]


def test_classes_in_alphabetical_order(class_phantom):
    assert class_names(class_phantom) == ["benign", "malignant"]
    parts = {split: class_folder_records(class_phantom, split) for split in ("train", "val", "test")}
    assert {split: len(records) for split, records in parts.items()} == {"train": 8, "val": 2, "test": 4}
    for records in parts.values():
        assert {record["label"] for record in records} == {0, 1}
        for record in records:
            assert record["case"].split("/")[0] == ("benign", "malignant")[record["label"]]
            assert record["image"].is_file()


def test_bad_class_folders(class_phantom, copied):
    root = copied(class_phantom)
    shutil.rmtree(root / "val" / "benign")
    with pytest.raises(DataError, match=r"val: classes malignant \(expected those of train: benign, malignant\)"):
        class_folder_records(root, "train")
    (root / "val" / "benign").mkdir()
    with pytest.raises(DataError, match="no images"):
        class_folder_records(root, "val")
    with pytest.raises(DataError, match="no such folder"):
        class_folder_records(root, "validation")
    with pytest.raises(DataError, match="no split"):
        class_names(root / "train")


def test_images_and_masks(nodule_phantom, copied, save_image):
    records = image_mask_records(nodule_phantom, "train")
    assert len(records) == 8
    assert all(record["label"].stem == record["image"].stem for record in records)
    root = copied(nodule_phantom)
    (root / "masks").rename(root / "annotations")
    first = root / "images" / "train" / "phantom_0000.png"
    save_image(first.with_suffix(".jpg"), IMAGE)
    first.unlink()
    assert image_mask_records(root, "train")[0]["image"].suffix == ".jpg"
    (root / "annotations" / "train" / "phantom_0000.png").unlink()
    with pytest.raises(DataError, match=r"phantom_0000.jpg: no mask of this name"):
        image_mask_records(root, "train")
    with pytest.raises(DataError, match="no such folder"):
        image_mask_records(root, "train", images="images_gaussian")
    shutil.rmtree(root / "annotations")
    with pytest.raises(DataError, match="no folder of masks"):
        image_mask_records(root, "train")


def test_images_without_splits(tmp_path, save_image):
    for name in ("a", "b"):
        save_image(tmp_path / "images" / f"{name}.bmp", IMAGE)
        save_image(tmp_path / "masks_1" / f"{name}.png", IMAGE > 9)
    assert names(image_mask_records(tmp_path, None)) == ["a", "b"]
    save_image(tmp_path / "images" / "a.png", IMAGE)
    with pytest.raises(DataError, match=r"of the same name as a\.bmp"):
        image_mask_records(tmp_path, None)


def test_folds_of_tn3k(tn3k_phantom):
    held_out = []
    for fold in range(5):
        train, val = (names(tn3k_records(tn3k_phantom, split, fold)) for split in ("train", "val"))
        assert len(train) == 8
        assert not set(train) & set(val)
        assert sorted(train + val) == names(tn3k_records(tn3k_phantom, "trainval"))
        held_out += val
    assert sorted(held_out) == names(tn3k_records(tn3k_phantom, "trainval"))
    assert names(tn3k_records(tn3k_phantom, "val", None)) == names(tn3k_records(tn3k_phantom, "val", 0))
    test = tn3k_records(tn3k_phantom, "test")
    assert len(test) == 4
    assert all(record["image"].parent.name == "test-image" for record in test)


def test_numbers_count_images_in_the_order_of_their_numbers(tmp_path, save_image):
    for name in ("10", "9", "100"):
        save_image(tmp_path / "trainval-image" / f"{name}.png", IMAGE)
        save_image(tmp_path / "trainval-mask" / f"{name}.png", IMAGE > 9)
    (tmp_path / "tn3k-trainval-fold0.json").write_text(json.dumps({"train": [2, 0], "val": [1]}))
    assert names(tn3k_records(tmp_path, "train")) == ["100", "9"]
    assert names(tn3k_records(tmp_path, "val")) == ["10"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"train": [0, 1], "val": [1]}', "1 images are in 'train' and 'val'"),
        ('{"train": [0, 99], "val": [1]}', "'train' holds 99"),
        ('{"train": [0, 0], "val": [1]}', "holds a number twice"),
        ('{"train": [0]}', "unreadable"),
        ("[1, 2", "unreadable"),
    ],
)
def test_bad_lists_of_tn3k(tn3k_phantom, copied, text, reason):
    root = copied(tn3k_phantom)
    (root / "tn3k-trainval-fold2.json").write_text(text)
    with pytest.raises(DataError, match=reason):
        tn3k_records(root, "train", 2)
    assert tn3k_records(root, "train", 1)
    (root / "tn3k-trainval-fold2.json").unlink()
    with pytest.raises(DataError, match="no such file"):
        tn3k_records(root, "train", 2)
    with pytest.raises(ValueError, match="split"):
        tn3k_records(root, "validation")


def test_pretraining_takes_all_folders_and_never_a_test_image(class_phantom, nodule_phantom, tn3k_phantom):
    for root, count in ((class_phantom, (8, 2)), (nodule_phantom, (8, 2)), (tn3k_phantom, (9, 1))):
        found = [pretraining_records(root, split) for split in ("train", "val")]
        assert tuple(map(len, found)) == count, root
        paths = {record["image"] for records in found for record in records}
        assert len(paths) == 10
        assert not any("test" in str(path.relative_to(root)) or "mask" in str(path.relative_to(root)) for path in paths)
    with pytest.raises(ValueError, match="train or val"):
        pretraining_records(class_phantom, "test")


def test_subset_is_drawn_by_seed(class_phantom):
    some = names(pretraining_records(class_phantom, num_images=4))
    assert len(set(some)) == 4
    assert some == names(pretraining_records(class_phantom, num_images=4))
    assert any(some != names(pretraining_records(class_phantom, num_images=4, seed=seed)) for seed in (1, 2, 3))
    for number in (0, 9):
        with pytest.raises(DataError, match="8 images"):
            pretraining_records(class_phantom, num_images=number)


def test_two_trees(class_phantom, copied):
    blurred = copied(class_phantom)
    for record in pretraining_records(blurred, "train", original_dir=class_phantom):
        assert record["target"].relative_to(class_phantom) == record["image"].relative_to(blurred)
    extra = blurred / "train" / "benign" / "extra.png"
    shutil.copy(next(extra.parent.iterdir()), extra)
    with pytest.raises(DataError, match=r"extra.png: no original"):
        pretraining_records(blurred, "train", original_dir=class_phantom)
