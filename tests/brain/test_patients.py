import logging
import shutil

import numpy as np
import pytest

from custom_apps.brain.contrasts import CONTRASTS
from custom_apps.brain.labels_table import EGD_TABLE, read_labels
from custom_apps.brain.patients import Patient, find_patients, patient_records, read_patient
from custom_apps.common.dicom_series import write_dicom_series
from custom_apps.common.errors import DataError
from custom_apps.common.volume_file import read_volume


def names_of(record):
    return [path.rsplit("/", 1)[-1] for path in record["image"]]


def test_egd_in_channel_order(egd_phantom):
    records = patient_records(egd_phantom, task="pretraining")
    assert [record["case"] for record in records] == [f"EGD-{n:04d}" for n in range(1, 7)]
    for record in records:
        assert names_of(record) == ["T1.nii.gz", "T2.nii.gz", "T1GD.nii.gz", "FLAIR.nii.gz"]
        assert record["mask"].endswith("5_MASK/NIFTI/MASK.nii.gz")
        assert record["label"] == -1


def test_brats_in_channel_order(brats_phantom):
    record = patient_records(brats_phantom)[0]
    assert names_of(record) == [f"BraTS2021_00000_{name}.nii.gz" for name in CONTRASTS]
    assert record["mask"].endswith("BraTS2021_00000_seg.nii.gz")


def test_brats_2023_keeps_examinations_of_a_person_together(brats_phantom, tmp_path):
    old, new = brats_phantom / "BraTS2021_00000", {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f"}
    for case in ("BraTS-GLI-00007-000", "BraTS-GLI-00007-001"):
        (tmp_path / "train" / case).mkdir(parents=True)
        for theirs, name in new.items():
            shutil.copy(old / f"{old.name}_{theirs}.nii.gz", tmp_path / "train" / case / f"{case}-{name}.nii.gz")
    (tmp_path / "labels.csv").write_text("Subject,IDH\nBraTS-GLI-00007,1\n")
    records = patient_records(tmp_path)
    assert [(record["patient"], record["label"]) for record in records] == [("BraTS-GLI-00007", 1)] * 2
    assert names_of(records[1]) == [f"BraTS-GLI-00007-001-{new[name]}.nii.gz" for name in CONTRASTS]


def test_arrays_whose_names_contain_t1(tmp_path):
    for name in CONTRASTS:
        (tmp_path / name).mkdir()
        for case in ("pat1_t1x", "B"):
            np.save(tmp_path / name / f"{case}_{name}.npy", np.zeros((4, 4, 4), np.uint8))
    records = patient_records(tmp_path, task="pretraining")
    assert [record["case"] for record in records] == ["B", "pat1_t1x"]
    assert names_of(records[1]) == [f"pat1_t1x_{name}.npy" for name in CONTRASTS]
    assert records[0]["mask"] == ""


def test_one_folder_a_contrast_with_nifti(brats_phantom, tmp_path):
    for patient in find_patients(brats_phantom):
        for name in CONTRASTS:
            (tmp_path / name).mkdir(exist_ok=True)
            shutil.copy(patient.files[name], tmp_path / name / f"{patient.case}_{name}.nii.gz")
    records = patient_records(tmp_path, task="pretraining")
    assert [record["case"] for record in records] == [patient.case for patient in find_patients(brats_phantom)]
    assert names_of(records[1]) == [f"BraTS2021_00001_{name}.nii.gz" for name in CONTRASTS]
    (tmp_path / "flair" / "BraTS2021_00001_flair.nii.gz").unlink()
    with pytest.raises(DataError, match=r"BraTS2021_00001_t1.nii.gz: no flair"):
        patient_records(tmp_path, task="pretraining")


def test_variants_beside_an_image_are_passed_over(egd_copy):
    folder = egd_copy / "EGD-0001" / "1_T1" / "NIFTI"
    shutil.copy(folder / "T1.nii.gz", folder / "T1_biasfield.nii.gz")
    assert read_patient(egd_copy / "EGD-0001").images()[0] == folder / "T1.nii.gz"
    shutil.copy(folder / "T1.nii.gz", folder / "second_T1.nii.gz")
    with pytest.raises(DataError, match="several files for t1"):
        read_patient(egd_copy / "EGD-0001").images()


def test_dicom_folders_by_name_or_by_description(brats_phantom, tmp_path):
    case = read_patient(brats_phantom / "BraTS2021_00001")
    described = {"t1": "T1 MPRAGE", "t2": "T2 TSE", "t1ce": "T1 MPRAGE POST GD", "flair": "T2 FLAIR"}
    for number, name in enumerate(CONTRASTS):
        volume = read_volume(case.files[name], np.int16)
        write_dicom_series(volume.array, volume.affine, tmp_path / "by_name" / name.upper())
        folder = tmp_path / "by_description" / f"series{number:02d}"
        write_dicom_series(volume.array, volume.affine, folder, {"0008|103e": described[name]})
    assert [path.name for path in read_patient(tmp_path / "by_name").images()] == [name.upper() for name in CONTRASTS]
    images = read_patient(tmp_path / "by_description").images()
    assert [path.name for path in images] == ["series00", "series01", "series02", "series03"]


def test_a_single_patient_is_a_data_set(egd_phantom):
    assert [patient.case for patient in find_patients(egd_phantom / "EGD-0002")] == ["EGD-0002"]


@pytest.mark.parametrize(("task", "column"), [("idh", "idh"), ("1p19q", "codeletion")])
def test_unknown_labels_are_left_out(egd_phantom, task, column):
    markers = read_labels(egd_phantom / EGD_TABLE)
    records = patient_records(egd_phantom, task=task)
    assert {record["case"]: record["label"] for record in records} == {
        name: getattr(known, column) for name, known in markers.items() if getattr(known, column) != -1
    }
    assert len(records) == 5


def test_rows_without_images_and_images_without_rows_are_reported(egd_copy, caplog):
    shutil.rmtree(egd_copy / "EGD-0001")
    shutil.copytree(egd_copy / "EGD-0002", egd_copy / "EGD-0099")
    with caplog.at_level(logging.WARNING):
        records = patient_records(egd_copy)
    assert "EGD-0099" in caplog.text
    assert "EGD-0001" in caplog.text
    assert {"EGD-0001", "EGD-0099"}.isdisjoint(record["case"] for record in records)
    assert "EGD-0099" in [record["case"] for record in patient_records(egd_copy, task="pretraining")]


def test_chosen_cases(egd_phantom):
    chosen = ["EGD-0003", "EGD-0001"]
    assert [record["case"] for record in patient_records(egd_phantom, cases=chosen)] == sorted(chosen)
    with pytest.raises(DataError, match="EGD-9999"):
        patient_records(egd_phantom, cases=["EGD-9999"])


def test_what_is_missing_is_named(egd_copy, tmp_path):
    shutil.rmtree(egd_copy / "EGD-0003" / "2_T1GD")
    with pytest.raises(DataError, match=r"EGD-0003: no t1ce"):
        patient_records(egd_copy)
    with pytest.raises(DataError, match="no such folder"):
        find_patients(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no patient found"):
        find_patients(tmp_path / "empty")


def test_a_task_with_labels_needs_a_table(egd_copy):
    (egd_copy / EGD_TABLE).unlink()
    assert len(patient_records(egd_copy, task="pretraining")) == 6
    with pytest.raises(DataError, match="no table"):
        patient_records(egd_copy)
    (egd_copy / "labels.csv").write_text("Subject,IDH\nEGD-0001,-1\n")
    with pytest.raises(DataError, match="no patient with images and known idh status"):
        patient_records(egd_copy)


def test_two_files_for_one_contrast(brats_phantom, tmp_path):
    folder = shutil.copytree(brats_phantom / "BraTS2021_00000", tmp_path / "P")
    shutil.copy(folder / "BraTS2021_00000_t1.nii.gz", folder / "other_t1n.nii.gz")
    with pytest.raises(DataError, match="several files for t1"):
        read_patient(folder).images()


def test_person_of_a_case(tmp_path):
    assert Patient("BraTS-GLI-00001-002", tmp_path).patient == "BraTS-GLI-00001"
    assert Patient("BraTS2021_00001", tmp_path).patient == "BraTS2021_00001"
    assert Patient("EGD-0001", tmp_path).patient == "EGD-0001"
