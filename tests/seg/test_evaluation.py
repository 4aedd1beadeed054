import json

import numpy as np
import pytest

from custom_apps.common.errors import DataError
from custom_apps.seg.evaluation import evaluate_folder
from custom_apps.seg.protocol import SegmentationProtocol
from custom_apps.seg.volume_io import read_segmentation
from tests.seg.model_phantom import label_map, write_case

PROTOCOL = SegmentationProtocol(
    {"labels": {"background": 0, "liver": 1, "kidney": 2}}, ("dice", "iou", "nsd"), tolerance_mm=1.0
)


@pytest.fixture
def folders(tmp_path):
    for case, shift in (("a", 0), ("b", 2), ("c", 1)):
        labels = label_map(seed=ord(case))
        write_case(tmp_path / "ref", case, labels)
        write_case(tmp_path / "pred", case, np.roll(labels, shift, 2))
    return tmp_path / "pred" / "labelsTs", tmp_path / "ref" / "labelsTs"


def test_cases_are_paired_by_name(folders, tmp_path):
    tables = evaluate_folder(*folders, PROTOCOL, tmp_path / "scores")
    liver = tables.values("dice", "liver")
    assert liver[0] == 1
    assert liver[1] < liver[2] < 1
    pair = [read_segmentation(folder / "b.nii.gz")[0][0] for folder in folders]
    assert PROTOCOL.score(*pair, (2.0, 1.0, 1.0), "b")[0]["nsd"] == tables.values("nsd", "liver")[1]
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert summary["metric_per_case"][0]["reference_file"] == str(folders[1] / "a.nii.gz")


def test_several_processes_give_the_same(folders):
    protocol = SegmentationProtocol({"labels": {"background": 0, "liver": 1, "kidney": 2}})
    one, two = (evaluate_folder(*folders, protocol, num_processes=n) for n in (1, 2))
    assert one.rows == two.rows


def test_a_selection_of_cases(folders):
    assert evaluate_folder(*folders, PROTOCOL, cases=["c", "a"]).cases == ["a", "c"]
    with pytest.raises(DataError, match="ref/labelsTs/q: reference is missing"):
        evaluate_folder(*folders, PROTOCOL, cases=["q"])


def test_missing_and_extra_predictions_are_named(folders):
    predictions, references = folders
    (predictions / "b.nii.gz").rename(predictions / "d.nii.gz")
    with pytest.raises(DataError, match="pred/labelsTs/b: prediction is missing"):
        evaluate_folder(*folders, PROTOCOL)
    (references / "b.nii.gz").unlink()
    with pytest.raises(DataError, match=r"d.nii.gz: prediction has no reference"):
        evaluate_folder(*folders, PROTOCOL)


def test_pairs_that_do_not_fit_are_named(folders, tmp_path):
    write_case(tmp_path / "pred", "b", label_map((10, 24, 21)))
    with pytest.raises(DataError, match=r"b.nii.gz: shape is \(10, 24, 21\).*ref/labelsTs/b.nii.gz"):
        evaluate_folder(*folders, PROTOCOL)
    write_case(tmp_path / "pred", "b", label_map(), spacing_mm=(3.0, 1.0, 1.0))
    with pytest.raises(DataError, match=r"b.nii.gz: spacing is"):
        evaluate_folder(*folders, PROTOCOL)


def test_folders_without_label_maps(tmp_path, folders):
    with pytest.raises(DataError, match="no such folder"):
        evaluate_folder(tmp_path / "nowhere", folders[1], PROTOCOL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no label maps"):
        evaluate_folder(tmp_path / "empty", tmp_path / "empty", PROTOCOL)
    (folders[0] / "a.mha").touch()
    with pytest.raises(DataError, match="second label map of case 'a'"):
        evaluate_folder(*folders, PROTOCOL)
