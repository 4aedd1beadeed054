import numpy as np
import pytest

from custom_apps.common.problems import ERROR, WARNING
from custom_apps.seg.check import check_dataset
from tests.seg.raw_data import describe, raw_dataset, volume, write


def test_a_sound_data_set(tmp_path):
    folder = raw_dataset(tmp_path, channels=2)
    write(volume(5)[0], folder / "imagesTs" / "new_0000.nii.gz")
    write(volume(5)[0], folder / "imagesTs" / "new_0001.nii.gz")
    assert check_dataset(folder) == []


def test_images_without_labels_are_checked_too(tmp_path):
    folder = raw_dataset(tmp_path)
    path = write(volume(5)[0], folder / "unlabeledTr" / "new_0000.nii.gz")
    assert check_dataset(folder) == []
    path.write_bytes(path.read_bytes()[:-40])
    write(volume(6)[0], folder / "unlabeledTr" / "unnumbered.nii.gz")
    found = [problem.path for problem in check_dataset(folder)]
    assert found == [str(path.with_name("unnumbered.nii.gz")), str(path)]


def _not_a_number(folder):
    image, _ = volume(0)
    image[2, 3, 4] = np.nan
    write(image, folder / "imagesTr" / "case_0_0000.nii.gz")


def _truncate(folder):
    path = folder / "imagesTr" / "case_1_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])


def _undeclared(folder):
    label = volume(0)[1]
    label[3, 4, 5] = 7
    write(label, folder / "labelsTr" / "case_0.nii.gz")


FAULTS = {
    "nan": (_not_a_number, "case_0_0000.nii.gz", "NaN or infinite", ERROR),
    "truncated": (_truncate, "case_1_0000.nii.gz", "truncated", ERROR),
    "undeclared": (_undeclared, "case_0.nii.gz", "undeclared labels [7]", ERROR),
    "label shape": (
        lambda folder: write(volume(0, (6, 14, 12))[1], folder / "labelsTr" / "case_0.nii.gz"),
        "case_0.nii.gz",
        "shape is (6, 14, 12)",
        ERROR,
    ),
    "label spacing": (
        lambda folder: write(volume(0)[1], folder / "labelsTr" / "case_0.nii.gz", (2.0, 1.0, 1.25)),
        "case_0.nii.gz",
        "spacing is [2.0, 1.0, 1.25]",
        ERROR,
    ),
    "origin": (
        lambda folder: write(volume(0)[1], folder / "labelsTr" / "case_0.nii.gz", origin=(0.0, 0.0, 0.0)),
        "case_0.nii.gz",
        "origin is",
        WARNING,
    ),
    "zero image": (
        lambda folder: write(volume(0)[0] * 0, folder / "imagesTr" / "case_0_0000.nii.gz"),
        "case_0_0000.nii.gz",
        "zero everywhere",
        WARNING,
    ),
    "label without image": (
        lambda folder: write(volume(0)[1], folder / "labelsTr" / "case_9.nii.gz"),
        "case_9.nii.gz",
        "without an image",
        ERROR,
    ),
    "numTraining": (lambda folder: describe(folder, numTraining=5), "dataset.json", "numTraining is 5", ERROR),
    "colliding names": (
        lambda folder: [
            write(volume(0)[0], folder / "imagesTr" / "case_0_seg_0000.nii.gz"),
            write(volume(0)[1], folder / "labelsTr" / "case_0_seg.nii.gz"),
            describe(folder, numTraining=4),
        ],
        "Dataset007_Tiny",
        "'case_0_seg' is named as a file of another",
        ERROR,
    ),
    "test image": (
        lambda folder: write(volume(0)[0], folder / "imagesTs" / "new.nii.gz"),
        "new.nii.gz",
        "no channel number",
        ERROR,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_is_one_problem(tmp_path, fault):
    folder = raw_dataset(tmp_path)
    damage, name, problem, severity = FAULTS[fault]
    damage(folder)
    (found,) = check_dataset(folder)
    assert found.path.endswith(name)
    assert problem in found.problem
    assert found.severity == severity
    assert found.expected


def test_all_problems_are_listed(tmp_path):
    folder = raw_dataset(tmp_path, channels=2)
    (folder / "imagesTr" / "case_0_0001.nii.gz").unlink()
    (folder / "labelsTr" / "case_1.nii.gz").unlink()
    (folder / "imagesTr" / "case_2_0000.nii.gz").write_bytes(b"")
    named = {problem.path.rpartition("/")[2] for problem in check_dataset(folder)}
    assert named == {"case_0_0001.nii.gz", "case_1.nii.gz", "case_2_0000.nii.gz"}


def test_no_foreground_anywhere(tmp_path):
    folder = raw_dataset(tmp_path, cases=1)
    write(volume(0)[1] * 0, folder / "labelsTr" / "case_0.nii.gz")
    (found,) = check_dataset(folder)
    assert (found.problem, found.severity) == ("no training case has a foreground voxel", WARNING)


def test_broken_description_is_the_only_problem(tmp_path):
    (found,) = check_dataset(tmp_path)
    assert found.path == str(tmp_path / "dataset.json")


def test_ignore_label_is_declared(tmp_path):
    folder = raw_dataset(tmp_path, cases=1)
    describe(folder, numTraining=1, labels={"background": 0, "organ": 1, "ignore": 2})
    assert check_dataset(folder) == []


def test_test_images_can_be_left_out(tmp_path):
    folder = raw_dataset(tmp_path)
    write(volume(0)[0], folder / "imagesTs" / "new.nii.gz")
    assert check_dataset(folder, test=False) == []
