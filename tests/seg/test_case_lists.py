import json

import pytest

from custom_apps.common.errors import DataError
from custom_apps.seg.case_lists import cases_to_predict, labelled_cases


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "Dataset900_Test"
    description = {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "liver": 1},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    for sub, cases in (("imagesTr", "abc"), ("imagesTs", "xyz")):
        (folder / sub).mkdir(parents=True)
        for case in cases:
            for channel in range(2):
                (folder / sub / f"{case}_{channel:04d}.nii.gz").touch()
    for sub, cases in (("labelsTr", "abc"), ("labelsTs", "xy")):
        (folder / sub).mkdir()
        for case in cases:
            (folder / sub / f"{case}.nii.gz").touch()
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def names(items):
    return [item["case"] for item in items]


def test_labelled_cases(dataset):
    items = labelled_cases(dataset, ["c", "a"])
    assert names(items) == ["a", "c"]
    assert items[0]["image"] == [str(dataset / "imagesTr" / f"a_{channel:04d}.nii.gz") for channel in range(2)]
    assert items[0]["label"] == str(dataset / "labelsTr" / "a.nii.gz")
    assert names(labelled_cases(dataset, ["x"], "test")) == ["x"]


def test_labelled_cases_that_are_not_there(dataset):
    with pytest.raises(DataError, match="no case 'q'"):
        labelled_cases(dataset, ["a", "q"])
    with pytest.raises(DataError, match=r"z_0000.nii.gz: has no label map"):
        labelled_cases(dataset, part="test")
    with pytest.raises(DataError, match="no cases"):
        labelled_cases(dataset, [])
    with pytest.raises(ValueError, match="part must be"):
        labelled_cases(dataset, part="validation")


def test_cases_to_predict(dataset):
    assert names(cases_to_predict(dataset / "imagesTr", dataset)) == ["a", "b", "c"]
    assert names(cases_to_predict(dataset, dataset)) == ["x", "y", "z"], "a data set stands for its test images"
    assert "label" not in cases_to_predict(dataset, dataset)[0]


def test_what_is_done_is_an_error_skipped_or_done_again(dataset, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "y.nii.gz").touch()
    with pytest.raises(DataError, match=r"y.nii.gz: was predicted before"):
        cases_to_predict(dataset, dataset, output)
    assert names(cases_to_predict(dataset, dataset, output, "skip")) == ["x", "z"]
    assert names(cases_to_predict(dataset, dataset, output, "overwrite")) == ["x", "y", "z"]
    with pytest.raises(ValueError, match="existing must be"):
        cases_to_predict(dataset, dataset, output, "ask")


def test_parts_do_not_move_while_others_write(dataset, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "x.nii.gz").touch()
    parts = [names(cases_to_predict(dataset, dataset, output, "skip", part, 2)) for part in range(2)]
    assert parts == [["z"], ["y"]]
    with pytest.raises(ValueError, match=r"part must be in 0..1"):
        cases_to_predict(dataset, dataset, part=2, parts=2)
