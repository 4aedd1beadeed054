import json
import shutil

import nibabel
import numpy as np
import pytest

from custom_apps.brain.contrasts import CONTRASTS
from custom_apps.brain.labels_table import EGD_TABLE, read_labels
from custom_apps.brain.patients import find_patients, patient_records
from custom_apps.brain.prepare import prepare_dataset
from custom_apps.cli import main
from custom_apps.common.errors import DataError
from custom_apps.common.problems import errors_of

OPTIONS = {"size": 16, "spacing_mm": 12.0, "pictures": False}


def test_output_is_a_data_set_in_its_own_right(egd_phantom, prepared):
    records = patient_records(prepared)
    assert [r["case"] for r in records] == [r["case"] for r in patient_records(egd_phantom)]
    assert read_labels(prepared / "labels.csv") == read_labels(egd_phantom / EGD_TABLE)
    image = nibabel.load(records[0]["image"][2])
    assert image.shape == (16, 20, 16)
    assert image.get_data_dtype() == np.uint8
    assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
    assert image.header.get_zooms() == pytest.approx([12.0] * 3)
    content = json.loads((prepared / "EGD-0001" / "EGD-0001.json").read_text())
    assert np.allclose(content["affine"], image.affine)
    assert content["sources"]["t1ce"].endswith("2_T1GD/NIFTI/T1GD.nii.gz")
    assert json.loads((prepared / "preparation.json").read_text())["settings"]["size"] == [16, 20, 16]


def test_brats_and_egd_lie_the_same_way(brats_phantom, tmp_path):
    prepare_dataset(brats_phantom, tmp_path / "out", **OPTIONS)
    image = nibabel.load(tmp_path / "out" / "BraTS2021_00000" / "BraTS2021_00000_t1.nii.gz")
    raw = nibabel.load(brats_phantom / "BraTS2021_00000" / "BraTS2021_00000_t1.nii.gz")
    assert nibabel.aff2axcodes(raw.affine) == ("L", "P", "S")
    assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
    inside = np.argwhere(raw.get_fdata() > 0).mean(axis=0)
    kept = np.argwhere(image.get_fdata() > 0).mean(axis=0)
    assert np.abs(raw.affine @ (*inside, 1) - image.affine @ (*kept, 1)).max() < 6


def test_a_bad_patient_does_not_stop_the_others_and_a_second_run_continues(egd_copy, tmp_path):
    broken = egd_copy / "EGD-0002" / "3_T2" / "NIFTI" / "T2.nii.gz"
    content = broken.read_bytes()
    broken.write_bytes(content[:100])
    problems = prepare_dataset(egd_copy, tmp_path / "out", **OPTIONS)
    assert [problem.path for problem in errors_of(problems)] == [str(broken)]
    assert len(find_patients(tmp_path / "out")) == 5
    first = tmp_path / "out" / "EGD-0001" / "EGD-0001_t1.nii.gz"
    before = first.stat().st_mtime_ns
    broken.write_bytes(content)
    assert not errors_of(prepare_dataset(egd_copy, tmp_path / "out", **OPTIONS))
    assert len(find_patients(tmp_path / "out")) == 6
    assert first.stat().st_mtime_ns == before


def test_other_settings_are_refused(egd_phantom, prepared_copy):
    with pytest.raises(DataError, match=r"preparation.json: prepared already with .*fit crop"):
        prepare_dataset(egd_phantom, prepared_copy, size=(16, 20, 16), spacing_mm=12.0, fit="resize")


def test_cut_brains_are_reported_once(egd_phantom, tmp_path):
    problems = prepare_dataset(egd_phantom, tmp_path / "out", size=8, spacing_mm=12.0, pictures=False)
    assert len(problems) == 1
    assert problems[0].severity == "warning"
    assert "6 of 6 brains are cut" in problems[0].problem


def test_picture(egd_phantom, tmp_path):
    prepare_dataset(egd_phantom / "EGD-0001", tmp_path / "out", size=24, spacing_mm=8.0)
    assert (tmp_path / "out" / "EGD-0001" / "EGD-0001.png").stat().st_size > 10_000


def test_command(egd_copy, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.rmtree(egd_copy / "EGD-0006" / "4_FLAIR")
    command = ["prepare", "brain_idh_ssm_mae", str(egd_copy), str(out)]
    options = ["--size", "16", "20", "16", "--spacing-mm", "12", "--no-pictures"]
    assert main([*command, *options]) == 1
    output = capsys.readouterr().out
    assert "no flair" in output
    assert "1 errors, 0 warnings" in output
    assert {path.name for path in (out / "EGD-0001").iterdir()} == {
        *(f"EGD-0001_{name}.nii.gz" for name in (*CONTRASTS, "seg")),
        "EGD-0001.json",
    }
    assert main([*command, "--size", "16"]) == 1
    assert "prepared already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["umamba_seg", "--fit", "crop"], "has no option fit"),
        (["echo_ef_mamba3d", "--fit", "crop"], "has no option fit"),
    ],
)
def test_command_refuses_what_there_is_not(tmp_path, arguments, message):
    bundle, *options = arguments
    with pytest.raises(SystemExit, match=message):
        main(["prepare", bundle, str(tmp_path), str(tmp_path / "out"), *options])
    with pytest.raises(SystemExit):
        main(["prepare", "brain_idh_ssm_mae", str(tmp_path), str(tmp_path / "out"), "--size", "0"])
