import csv

import numpy as np
import pytest
from PIL import Image

from custom_apps.common.errors import DataError
from custom_apps.thyroid.mask_export import SaveMasks
from custom_apps.thyroid.prediction_list import images_to_predict


@pytest.fixture
def items(tmp_path, save_image):
    for name in ("a.png", "deep/a.jpg", "masks/a.png"):
        save_image(tmp_path / "in" / name, np.full((11, 17), 90, np.uint8))
    return images_to_predict(tmp_path / "in")


def two_parts(size=(11, 17)):
    mask = np.zeros(size, np.int64)
    mask[1:4, 1:4] = 1
    mask[6:8, 10:14] = 1
    return mask


def test_folders_become_part_of_the_name_and_masks_are_passed_over(items):
    assert [(item["case"], item["file_name"]) for item in items] == [("a", "a.png"), ("deep_a", "deep/a.jpg")]


def test_single_file(items, tmp_path):
    assert [item["case"] for item in images_to_predict(tmp_path / "in" / "deep" / "a.jpg")] == ["a"]


def test_files_and_table(items, tmp_path):
    out = tmp_path / "out"
    writer = SaveMasks(out, items, ["mask", "overlay", "probability"])
    mask = two_parts()
    writer.add({"case": "deep_a", "pred": mask, "probability": np.where(mask, 0.75, 0.1)})
    written = np.array(Image.open(out / "deep_a_mask.png"))
    assert np.array_equal(written, mask * 255)
    assert Image.open(out / "deep_a_overlay.png").size == (17, 11)
    assert set(np.unique(Image.open(out / "deep_a_probability.png"))) == {26, 191}
    assert writer.rows[0] == {
        "file_name": "deep/a.jpg",
        "pixels": 187,
        "nodule_pixels": 17,
        "nodule_share": 17 / 187,
        "parts": 2,
        "highest_probability": 0.75,
    }


def test_earlier_predictions_are_safe(items, tmp_path):
    out = tmp_path / "out"
    mask = two_parts()
    SaveMasks(out, items, ["mask"]).add({"case": "a", "pred": mask, "probability": mask * 1.0})
    content = (out / "a_mask.png").read_bytes()
    with pytest.raises(DataError, match="not overwritten"):
        SaveMasks(out, items, ["mask"]).add({"case": "a", "pred": mask * 0, "probability": mask * 0.0})
    assert (out / "a_mask.png").read_bytes() == content
    with pytest.raises(DataError, match="predicted before"):
        images_to_predict(tmp_path / "in", out, ["_mask.png"])
    left = images_to_predict(tmp_path / "in", out, ["_mask.png"], existing="skip")
    assert [item["case"] for item in left] == ["deep_a"]
    assert len(images_to_predict(tmp_path / "in", out, ["_mask.png"], existing="overwrite")) == 2


def test_rows_of_a_shared_table_are_skipped(items, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with open(out / "classes.csv", "w", newline="") as file:
        csv.writer(file).writerows([["file_name", "probability"], ["deep/a.jpg", "0.3"]])
    left = images_to_predict(tmp_path / "in", out, existing="skip", shared_table="classes.csv")
    assert [item["case"] for item in left] == ["a"]
    with pytest.raises(DataError, match="earlier predictions"):
        images_to_predict(tmp_path / "in", out, shared_table="classes.csv")


def test_nothing_to_predict(tmp_path, save_image):
    save_image(tmp_path / "masks" / "a.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(DataError, match="no images"):
        images_to_predict(tmp_path)
    with pytest.raises(DataError, match="no such"):
        images_to_predict(tmp_path / "missing.png")


def test_two_formats_of_one_name(tmp_path, save_image):
    for ending in ("png", "bmp"):
        save_image(tmp_path / f"a.{ending}", np.zeros((3, 3), np.uint8))
    with pytest.raises(DataError, match="two files of the name 'a'"):
        images_to_predict(tmp_path)
