import json

import numpy as np
import pytest
from PIL import Image

from custom_apps.cli import main
from custom_apps.common.errors import DataError
from custom_apps.thyroid.blur import blurred
from custom_apps.thyroid.blurred_copy import blur_of, write_blurred_copy
from custom_apps.thyroid.chains import PretrainingImages, UPerNetImages
from custom_apps.thyroid.image_dataset import ImageDataset
from custom_apps.thyroid.image_file import read_image
from custom_apps.thyroid.records import image_mask_records, pretraining_records, tn3k_records


def test_images_are_blurred_and_everything_else_is_copied(tn3k_phantom, tmp_path):
    output = tmp_path / "blurred"
    assert not write_blurred_copy(tn3k_phantom, output, sigma=1.5)
    for path in sorted((tn3k_phantom / "trainval-image").iterdir()):
        copy = Image.open(output / "trainval-image" / f"{path.stem}.png")
        assert copy.mode == "L"
        assert np.array_equal(np.array(copy), blurred(read_image(path), "gaussian", 1.5))
    for name in ("trainval-mask/0000.jpg", "test-mask/0001.jpg", "tn3k-trainval-fold0.json"):
        assert (output / name).read_bytes() == (tn3k_phantom / name).read_bytes()
    assert blur_of(output) == "gaussian 1.5"
    records = tn3k_records(output, "train")
    assert len(records) == 8
    assert {record["blur"] for record in records} == {"gaussian 1.5"}


@pytest.mark.parametrize("method", ["gaussian", "motion", "median"])
def test_copy_equals_blur_on_the_fly(nodule_phantom, tmp_path, method):
    output = tmp_path / "blurred"
    write_blurred_copy(nodule_phantom, output, method, workers=2)
    chains = UPerNetImages(False, limits=(64, 64), method=None), UPerNetImages(False, limits=(64, 64), method=method)
    copied = ImageDataset(image_mask_records(output, "test"), chains[0])
    fresh = ImageDataset(image_mask_records(nodule_phantom, "test"), chains[1])
    for one, other in zip(copied, fresh, strict=True):
        assert np.array_equal(one["image"], other["image"])
        assert np.array_equal(one["label"], other["label"])


def test_pairs_from_two_trees_equal_pairs_from_one(class_phantom, tmp_path):
    output = tmp_path / "blurred"
    write_blurred_copy(class_phantom, output)
    chain = PretrainingImages(size=32, method=None)
    two = ImageDataset(pretraining_records(output, "train", class_phantom), chain, seed=3)
    one = ImageDataset(pretraining_records(class_phantom, "train"), PretrainingImages(size=32), seed=3)
    for index in range(3):
        for key in ("image", "target"):
            assert np.array_equal(one[index][key], two[index][key])


def test_names_decide_not_the_order(tmp_path, save_image):
    random = np.random.default_rng(0)
    images = {name: random.integers(0, 255, (20, 30)).astype(np.uint8) for name in "abc"}
    for name, image in images.items():
        save_image(tmp_path / "all" / "deep" / "er" / f"{name}.png", image)
    save_image(tmp_path / "one" / "c.png", images["c"])
    for folder in ("all", "one"):
        write_blurred_copy(tmp_path / folder, tmp_path / f"{folder}_blurred", "motion", seed=4)
    one, other = tmp_path / "one_blurred" / "c.png", tmp_path / "all_blurred" / "deep" / "er" / "c.png"
    assert np.array_equal(read_image(one), read_image(other))
    assert json.loads((tmp_path / "one_blurred" / "blur.json").read_text())["sigma"] is None


def test_unreadable_images_are_told(tmp_path, save_image, capsys):
    save_image(tmp_path / "raw" / "a.png", np.eye(9, dtype=np.uint8))
    (tmp_path / "raw" / "b.png").write_text("no image")
    assert (
        main(["prepare", "thyroid_deblur_mae", str(tmp_path / "raw"), str(tmp_path / "out"), "--method", "mean"]) == 1
    )
    assert "b.png" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "blur.json"]


def test_refusals(tmp_path, save_image):
    raw = tmp_path / "raw"
    with pytest.raises(DataError, match="no such folder"):
        write_blurred_copy(raw, tmp_path / "out")
    raw.mkdir()
    with pytest.raises(DataError, match="no images"):
        write_blurred_copy(raw, tmp_path / "out")
    image = np.eye(9, dtype=np.uint8)
    save_image(raw / "a.png", image)
    with pytest.raises(DataError, match="within the data set"):
        write_blurred_copy(raw, raw / "blurred")
    with pytest.raises(ValueError, match="above 0"):
        write_blurred_copy(raw, tmp_path / "out", sigma=0)
    write_blurred_copy(raw, tmp_path / "out")
    with pytest.raises(DataError, match="not overwritten"):
        write_blurred_copy(raw, tmp_path / "out")
    with pytest.raises(DataError, match="blurred already"):
        write_blurred_copy(tmp_path / "out", tmp_path / "twice")
    save_image(raw / "a.jpg", image)
    with pytest.raises(DataError, match=r"same name as a\.jpg|same name as a\.png"):
        write_blurred_copy(raw, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    (tmp_path / "out" / "blur.json").write_text("{}")
    with pytest.raises(DataError, match="unreadable"):
        blur_of(tmp_path / "out")
