import json
import pickle

import numpy as np
import pytest
from PIL import Image

from custom_apps.common.errors import DataError
from custom_apps.seg.raw_dataset import RawDataset
from tests.seg.raw_data import describe, raw_dataset, volume, write


def test_reads_description_and_cases(tmp_path):
    folder = raw_dataset(tmp_path, cases=3, channels=2)
    dataset = RawDataset(folder)
    assert dataset.name == "Dataset007_Tiny"
    assert dataset.channel_names == ["MRI", "MRI"]
    assert dataset.labels.names == ["background", "organ", "lesion"]
    assert dataset.num_training == 3
    assert dataset.reader_name == "SimpleITKIO"
    assert [case.identifier for case in dataset.training_cases] == ["case_0", "case_1", "case_2"]
    first = dataset.training_cases[0]
    assert [path.name for path in first.images] == ["case_0_0000.nii.gz", "case_0_0001.nii.gz"]
    assert first.label == folder / "labelsTr" / "case_0.nii.gz"
    image, _ = dataset.read_image(first)
    label, _ = dataset.read_label(first)
    assert image.shape == (2, 5, 14, 12)
    np.testing.assert_array_equal(label[0], volume(0)[1])


def test_old_key_modality(tmp_path):
    describe(tmp_path, channel_names=None, modality={"0": "CT"})
    assert RawDataset(tmp_path).channel_names == ["CT"]


def test_channels_are_ordered_by_number(tmp_path):
    describe(tmp_path, channel_names={str(n): f"c{n}" for n in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)})
    assert RawDataset(tmp_path).channel_names == [f"c{n}" for n in range(11)]


def test_explicit_map_of_files(tmp_path):
    image, label = volume(0)
    write(image, tmp_path / "elsewhere" / "scan.nii.gz")
    write(label, tmp_path / "elsewhere" / "truth.nii.gz")
    folder = tmp_path / "set"
    entry = {"images": ["../elsewhere/scan.nii.gz"], "label": str(tmp_path / "elsewhere" / "truth.nii.gz")}
    describe(folder, numTraining=1, dataset={"patient": entry})
    (case,) = RawDataset(folder).training_cases
    assert case.identifier == "patient"
    assert RawDataset(folder).read_image(case)[0].shape == (1, *image.shape)
    describe(folder, numTraining=1, dataset={"patient": {"images": ["missing.nii.gz"], "label": "x"}})
    with pytest.raises(DataError, match=r"missing\.nii\.gz: file is missing"):
        _ = RawDataset(folder).training_cases


def test_test_cases_with_and_without_labels(tmp_path):
    folder = raw_dataset(tmp_path)
    assert RawDataset(folder).test_cases == []
    image, label = volume(9)
    for name in ("a", "b"):
        write(image, folder / "imagesTs" / f"{name}_0000.nii.gz")
    write(label, folder / "labelsTs" / "b.nii.gz")
    cases = RawDataset(folder).test_cases
    assert [(case.identifier, case.label is not None) for case in cases] == [("a", False), ("b", True)]


def test_colour_image_is_one_file_of_three_channels(tmp_path):
    describe(tmp_path, channel_names={"0": "R", "1": "G", "2": "B"}, file_ending=".png", numTraining=1)
    for kind, array in (("imagesTr/x_0000", np.zeros((6, 8, 3), np.uint8)), ("labelsTr/x", np.ones((6, 8), np.uint8))):
        (tmp_path / kind).parent.mkdir()
        Image.fromarray(array).save(tmp_path / f"{kind}.png")
    dataset = RawDataset(tmp_path)
    assert dataset.reader_name == "NaturalImage2DIO"
    image, properties = dataset.read_image(dataset.training_cases[0])
    assert image.shape == (3, 1, 6, 8)
    assert properties["spacing"] == [999.0, 1.0, 1.0]


def test_wrong_number_of_channels_in_a_file(tmp_path):
    describe(tmp_path, channel_names={"0": "R", "1": "G", "2": "B"}, file_ending=".png", numTraining=1)
    (tmp_path / "imagesTr").mkdir()
    Image.fromarray(np.zeros((6, 8, 4), np.uint8)).save(tmp_path / "imagesTr" / "x_0000.png")
    dataset = RawDataset(tmp_path)
    with pytest.raises(DataError, match=r"x_0000\.png: 4 channels \(expected 3"):
        dataset.read_image(dataset.images_in(tmp_path / "imagesTr")[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 0, "a": 3}}, "consecutive"),
        ({"labels": None}, "no 'labels'"),
        ({"channel_names": None}, "no 'channel_names'"),
        ({"channel_names": {"1": "CT"}}, "keys"),
        ({"numTraining": None}, "no 'numTraining'"),
        ({"numTraining": "3"}, "'numTraining' is '3'"),
        ({"file_ending": None}, "no 'file_ending'"),
        ({"file_ending": ".jpg"}, "file_ending is '.jpg'"),
        ({"overwrite_image_reader_writer": "Nope"}, "unknown reader 'Nope'"),
    ],
)
def test_incomplete_descriptions(tmp_path, changes, message):
    describe(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        RawDataset(tmp_path)
    assert caught.value.path == str(tmp_path / "dataset.json")


def test_missing_and_broken_json(tmp_path):
    with pytest.raises(DataError, match=r"dataset\.json: is missing"):
        RawDataset(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": ')
    with pytest.raises(DataError, match="is not JSON"):
        RawDataset(tmp_path)
    (tmp_path / "dataset.json").write_text("[1]")
    with pytest.raises(DataError, match="not a JSON object"):
        RawDataset(tmp_path)


def _damage(folder, kind):
    images = folder / "imagesTr"
    if kind == "empty":
        for path in images.iterdir():
            path.unlink()
    elif kind == "no folder":
        images.rename(folder / "images")
    elif kind == "missing channel":
        (images / "case_1_0001.nii.gz").unlink()
    elif kind == "extra channel":
        (images / "case_1_0000.nii.gz").rename(images / "case_1_0002.nii.gz")
        write(volume(1)[0], images / "case_1_0000.nii.gz")
    elif kind == "no number":
        (images / "case_1_0000.nii.gz").rename(images / "case_1.nii.gz")
    elif kind == "wrong ending":
        write(volume(1)[0], images / "case_9_0000.mha")
    elif kind == "no label":
        (folder / "labelsTr" / "case_2.nii.gz").unlink()


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("empty", "imagesTr: no images"),
        ("no folder", "imagesTr: no such folder"),
        ("missing channel", r"case_1_0001\.nii\.gz: channel is missing"),
        ("extra channel", r"case_1_0002\.nii\.gz: channel is not declared"),
        ("no number", r"case_1\.nii\.gz: file name has no channel number"),
        ("wrong ending", r"case_9_0000\.mha: wrong file ending \(expected \.nii\.gz"),
        ("no label", r"case_2\.nii\.gz: label map is missing"),
    ],
)
def test_listing_problems_name_the_file(tmp_path, kind, named):
    folder = raw_dataset(tmp_path, channels=2)
    _damage(folder, kind)
    with pytest.raises(DataError, match=named):
        _ = RawDataset(folder).training_cases


def test_other_files_do_not_matter(tmp_path):
    folder = raw_dataset(tmp_path)
    (folder / "imagesTr" / ".DS_Store").write_text("")
    (folder / "imagesTr" / "notes.txt").write_text("")
    assert len(RawDataset(folder).training_cases) == 3


def test_travels_to_workers_without_its_lists(tmp_path):
    dataset = RawDataset(raw_dataset(tmp_path))
    assert len(dataset.training_cases) == 3
    copy = pickle.loads(pickle.dumps(dataset))
    assert "training_cases" not in copy.__dict__
    assert copy.training_cases == dataset.training_cases
    assert copy.description == json.loads((dataset.folder / "dataset.json").read_text())
