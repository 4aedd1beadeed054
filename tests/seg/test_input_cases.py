import json

import numpy as np
import pytest

from custom_apps.common.dicom_series import write_dicom_series
from custom_apps.common.errors import DataError
from custom_apps.seg.case_lists import cases_to_predict
from custom_apps.seg.input_cases import input_cases
from custom_apps.seg.raw_dataset import RawDataset
from custom_apps.seg.volume_io import read_images


def dataset(tmp_path, channels=("CT",), ending=".nii.gz", **more):
    description = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {"background": 0, "organ": 1},
        "numTraining": 1,
        "file_ending": ending,
    }
    folder = tmp_path / "description"
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(description | more))
    return RawDataset(folder)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(source, description):
    return {case.identifier: [path.name for path in case.images] for case in input_cases(source, description)}


def test_names_as_in_training_and_any_others(tmp_path):
    one = dataset(tmp_path)
    numbered = touch(tmp_path / "numbered", "a_0000.nii.gz", "b_0000.nii.gz")
    assert found(numbered, one) == {"a": ["a_0000.nii.gz"], "b": ["b_0000.nii.gz"]}
    mixed = touch(tmp_path / "mixed", "a_0000.nii.gz", "scan_2023.nii.gz", "c.d.NRRD", ".hidden.nii.gz", "notes.txt")
    assert found(mixed, one) == {"a": ["a_0000.nii.gz"], "c.d": ["c.d.NRRD"], "scan_2023": ["scan_2023.nii.gz"]}
    assert found(mixed / "c.d.NRRD", one) == {"c.d": ["c.d.NRRD"]}
    touch(mixed, "c.d.mha")
    with pytest.raises(DataError, match=r"two images of the name 'c.d'"):
        found(mixed, one)


def test_several_channels_need_their_numbers(tmp_path):
    two = dataset(tmp_path, ("CT", "PET"))
    folder = touch(tmp_path / "images", "a_0000.nii.gz", "a_0001.nii.gz")
    assert found(folder, two) == found(folder / "a_0000.nii.gz", two) == {"a": ["a_0000.nii.gz", "a_0001.nii.gz"]}
    with pytest.raises(DataError, match=r"one file for the 2 channels CT, PET .expected .*b_0000.nii.gz"):
        found(touch(folder, "b.nii.gz") / "b.nii.gz", two)
    with pytest.raises(DataError, match=r"c_0001.nii.gz: channel is missing"):
        found(touch(folder, "c_0000.nii.gz") / "c_0000.nii.gz", two)


def test_pictures_and_volumes_do_not_mix(tmp_path):
    colors = dataset(tmp_path, ("R", "G", "B"), ".png")
    folder = touch(tmp_path / "images", "cell 1.png", "cell 2.bmp", "volume.nii.gz")
    assert list(found(folder, colors)) == ["cell 1", "cell 2"]
    with pytest.raises(DataError, match=r"volume.nii.gz: is .nii.gz"):
        found(folder / "volume.nii.gz", colors)
    with pytest.raises(DataError, match="no images"):
        found(touch(tmp_path / "other", "cell.jpeg"), colors)


def test_series_alone_and_in_a_folder_of_series(tmp_path):
    one, affine = dataset(tmp_path), np.diag([-1.5, 0.0, 3.0, 1.0])
    affine[1, 1] = 0.8
    values = np.arange(4 * 5 * 3, dtype=np.int16).reshape(4, 5, 3)
    series = write_dicom_series(values, np.abs(affine), tmp_path / "study" / "patient 1")
    assert found(series, one) == found(tmp_path / "study", one) == {"patient 1": ["patient 1"]}
    with pytest.raises(DataError, match="a single DICOM file"):
        found(series / "0001.dcm", one)
    image, properties = read_images([series])
    assert np.array_equal(image[0], values.T)
    assert properties["spacing"] == pytest.approx([3.0, 0.8, 1.5])
    reoriented, _ = read_images([series], "NibabelIOWithReorient")
    assert np.array_equal(np.sort(reoriented.ravel()), np.sort(image.ravel()))


def test_earlier_results_count_by_the_ending_of_each_image(tmp_path):
    one = dataset(tmp_path)
    folder = touch(tmp_path / "images", "a.nii.gz", "b.nrrd")
    output = touch(tmp_path / "out", "b.nrrd")
    with pytest.raises(DataError, match=r"b.nrrd: was predicted before"):
        cases_to_predict(folder, one.folder, output)
    assert [item["case"] for item in cases_to_predict(folder, one.folder, output, "skip")] == ["a"]
