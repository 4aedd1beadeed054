import shutil

import nibabel
import numpy as np
import pytest

from custom_apps.brain.check import check_dataset
from custom_apps.brain.contrasts import CONTRASTS
from custom_apps.brain.labels_table import EGD_TABLE
from custom_apps.cli import main
from custom_apps.common.problems import errors_of

T1 = "1_T1/NIFTI/T1.nii.gz"


def change(path, function, affine=None):
    image = nibabel.load(path)
    array = function(np.asarray(image.dataobj))
    nibabel.save(nibabel.Nifti1Image(array, image.affine if affine is None else affine), path)


def found(root):
    return [(problem.severity, problem.path.replace(str(root), ""), problem.problem) for problem in check_dataset(root)]


def unusual(root):
    """Problems other than that the phantom is small."""
    return [item for item in found(root) if "of the rarer" not in item[2]]


def test_sound_data_sets(egd_phantom, brats_phantom, prepared):
    for root in (egd_phantom, brats_phantom, prepared):
        assert not unusual(root)


DAMAGE = {
    "missing contrast": (lambda p: shutil.rmtree(p / "4_FLAIR"), "error", "/EGD-0002", "no flair"),
    "truncated": (lambda p: (p / T1).write_bytes((p / T1).read_bytes()[:300]), "error", T1, "is not readable"),
    "nan": (lambda p: change(p / T1, lambda a: np.where(a > 500, np.nan, a)), "error", T1, "NaN"),
    "all zero": (lambda p: change(p / T1, np.zeros_like), "error", T1, "every voxel is 0"),
    "other shape": (lambda p: change(p / T1, lambda a: a[1:]), "error", "T2.nii.gz", "shape is (24, 24, 19)"),
    "other place": (lambda p: change(p / T1, lambda a: a, np.eye(4)), "error", "T2.nii.gz", "mm elsewhere"),
    "four axes": (lambda p: change(p / T1, lambda a: np.stack([a, a], -1)), "error", T1, "volume has shape"),
    "hardly a voxel": (lambda p: change(p / T1, lambda a: a * (a == a.max())), "error", T1, "voxels are not zero"),
    "skull": (lambda p: change(p / T1, lambda a: a + 50), "warning", T1, "100% of the voxels are not zero"),
    "same image twice": (
        lambda p: shutil.copy(p / T1, p / "3_T2" / "NIFTI" / "T2.nii.gz"), "error", "/EGD-0002", "are the same image",
    ),
    "empty mask": (
        lambda p: change(p / "5_MASK/NIFTI/MASK.nii.gz", np.zeros_like), "warning", "MASK.nii.gz", "no voxel is tumor",
    ),
    "other mask": (
        lambda p: change(p / "5_MASK/NIFTI/MASK.nii.gz", lambda a: a[1:]), "warning", "MASK.nii.gz", "shape is",
    ),
    "images without row": (lambda p: p.rename(p.parent / "EGD-0099"), "warning", "/EGD-0099", "is not in"),
    "row without images": (shutil.rmtree, "warning", EGD_TABLE, "EGD-0002 has no images"),
    "no table": (lambda p: (p.parent / EGD_TABLE).unlink(), "warning", "", "no table of molecular markers"),
    "bad table": (lambda p: (p.parent / EGD_TABLE).write_bytes(b"PK"), "error", EGD_TABLE, "is not a readable table"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_to_a_raw_data_set(egd_copy, name):
    damage, severity, path, problem = DAMAGE[name]
    damage(egd_copy / "EGD-0002")
    problems = unusual(egd_copy)
    assert any(s == severity and p.endswith(path) and problem in text for s, p, text in problems), problems
    assert (main(["check", "brain_idh_ssm_mae", str(egd_copy)]) == 1) == (severity == "error")


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda a: a[1:], "volume has shape (15, 20, 16)"),
        (lambda a: a.astype(np.float32) + 0.25, "values from 0.25"),
        (lambda a: a.astype(np.int16) * 4, "values from 0 to"),
    ],
)
def test_damage_to_a_prepared_data_set(prepared_copy, function, problem):
    change(prepared_copy / "EGD-0003" / "EGD-0003_t2.nii.gz", function)
    problems = errors_of(check_dataset(prepared_copy))
    assert any("EGD-0003_t2" in item.path and problem in item.problem for item in problems), problems


def test_arrays(tmp_path):
    random = np.random.default_rng(0)
    for name in CONTRASTS:
        (tmp_path / name).mkdir()
        array = np.pad(random.integers(1, 256, (12, 12, 12)), 4)
        np.save(tmp_path / name / f"A_{name}.npy", array.astype(np.float64))
    assert [item[2] for item in found(tmp_path)] == ["no table of molecular markers"]
    np.save(tmp_path / "t2" / "A_t2.npy", array / 255)
    assert any(item[0] == "error" and "A_t2.npy" in item[1] for item in found(tmp_path))


def test_same_name_twice(egd_copy):
    for part in ("a", "b"):
        (egd_copy / part).mkdir()
        shutil.copytree(egd_copy / "EGD-0001", egd_copy / part / "EGD-0001")
    for number in range(1, 7):
        shutil.rmtree(egd_copy / f"EGD-{number:04d}")
    assert any("another folder is named EGD-0001" in item[2] for item in found(egd_copy))


def test_no_data_set(tmp_path, capsys):
    assert [problem.problem for problem in check_dataset(tmp_path)] == ["no patient found"]
    assert main(["check", "brain_idh_ssm_mae", str(tmp_path / "absent")]) == 1
    assert "no such folder" in capsys.readouterr().out
