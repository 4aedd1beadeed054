"""Patients of a data set: which files they have, and what is known about them."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custom_apps.brain.contrasts import CONTRASTS, MASK, contrast_of
from custom_apps.brain.labels_table import UNKNOWN, Markers, find_labels, read_labels
from custom_apps.common.dicom_series import dicom_series
from custom_apps.common.errors import DataError
from custom_apps.common.volume_file import NIFTI_ENDINGS, is_nifti, nifti_stem

logger = logging.getLogger(__name__)

TASKS = ("idh", "1p19q", "pretraining")
DICOM_SUFFIXES = (".dcm", ".ima", "")


@dataclass
class Patient:
    """Files of one examination.

    Attributes:
        case: its name.
        folder: where it is; of data sets with one folder a contrast, the file of T1.
        files: contrast (or ``seg``) to NIfTI file, ``.npy`` file or folder of DICOM slices.
        twins: contrasts for which there is more than one candidate, with the candidates.
    """

    case: str
    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    twins: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def patient(self) -> str:
        """Name of the person: without the number of the examination in BraTS 2023 and later."""
        match = re.fullmatch(r"(BraTS-[A-Za-z]+-\d+)-\d{3}", self.case)
        return match[1] if match else self.case

    def images(self) -> list[Path]:
        """The four contrasts in the order of the channels.

        Raises:
            DataError: if one is missing or there are several.
        """
        if absent := [name for name in CONTRASTS if name not in self.files]:
            raise DataError(self.folder, f"no {', '.join(absent)}", "the contrasts t1, t2, t1ce and flair")
        for name, found in self.twins.items():
            if name in CONTRASTS:
                raise DataError(self.folder, f"several files for {name}: {', '.join(p.name for p in found)}", "one")
        return [self.files[name] for name in CONTRASTS]


def find_patients(dataset_dir: str | Path) -> list[Patient]:
    """All examinations in a folder, sorted by name, complete or not.

    Layouts: a folder a patient with files named by contrast (BraTS 2021 ``_t1ce.nii.gz``, BraTS 2023 ``-t1c.nii.gz``,
    what ``prepare`` writes), or with folders named by contrast that hold one NIfTI file (EGD: ``2_T1GD/NIFTI/``) or the
    slices of a DICOM series, whose description is asked where the folder's name says nothing; or one folder a contrast
    (``t1/<case>_t1.npy`` or ``.nii.gz``). Patients may be one folder further down; the folder may also be that of a
    patient.

    Raises:
        DataError: no such folder, or nothing in it that looks like a patient.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise DataError(root, "no such folder", "a data set of brain tumors")
    patients = _patients_by_contrast(root)
    if not patients and len((patient := read_patient(root)).files) > 1:
        patients = [patient]
    if not patients:
        folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
        patients = [patient for folder in folders if (patient := read_patient(folder)).files]
        if not patients:
            below = [path for folder in folders for path in sorted(folder.iterdir()) if path.is_dir()]
            patients = [patient for folder in below if (patient := read_patient(folder)).files]
    if not patients:
        expected = "folders of patients with t1, t2, t1ce and flair (BraTS, EGD, prepared), or t1/*_t1.npy"
        raise DataError(root, "no patient found", expected)
    return sorted(patients, key=lambda patient: patient.case)


def read_patient(folder: str | Path) -> Patient:
    """The examination in one folder; its name is the folder's."""
    folder = Path(folder)
    candidates: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and is_nifti(path):
            contrast, found = contrast_of(nifti_stem(path)), [path]
        elif path.is_dir() and not path.name.startswith("."):
            found = _volumes_below(path)
            contrast = contrast_of(path.name) or (_contrast_of_series(path) if found == [path] else None)
        else:
            continue
        if contrast and found:
            candidates.setdefault(contrast, []).extend(found)
    twins = {name: found for name, found in candidates.items() if len(found) > 1}
    return Patient(folder.name, folder, {name: found[0] for name, found in candidates.items()}, twins)


def _volumes_below(folder: Path) -> list[Path]:
    """NIfTI files in a folder or in its folder ``NIFTI``, or the folder itself where it holds other files."""
    for place in (folder / "NIFTI", folder):
        files = [path for path in sorted(place.iterdir()) if path.is_file()] if place.is_dir() else []
        if volumes := [path for path in files if is_nifti(path)]:
            # Variants such as T1_biasfield.nii.gz may lie beside the image.
            return [path for path in volumes if contrast_of(nifti_stem(path))] or volumes
        if files and place == folder:
            return [folder]
    return []


def _contrast_of_series(folder: Path) -> str | None:
    """What the description of the one DICOM series in a folder says."""
    if not any(path.suffix.lower() in DICOM_SUFFIXES for path in folder.iterdir() if path.is_file()):
        return None
    series = list(dicom_series(folder).values())
    return contrast_of(series[0][0]) if len(series) == 1 else None


def _patients_by_contrast(root: Path) -> list[Patient]:
    """Patients of a data set with one folder a contrast."""
    patients = []
    for ending in (".npy", *NIFTI_ENDINGS):
        for path in sorted((root / "t1").glob(f"*_t1{ending}")):
            case = path.name.removesuffix(f"_t1{ending}")
            files = {name: root / name / f"{case}_{name}{ending}" for name in CONTRASTS}
            files[MASK] = root / "seg_mask" / f"{case}_{MASK}{ending}"
            found = {name: file for name, file in files.items() if file.is_file()}
            patients.append(Patient(case, path, found))
    return patients


def patient_records(
    dataset_dir: str | Path,
    labels: str | Path | None = None,
    task: str = "idh",
    cases: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Records of a data set for training and evaluation, sorted by case.

    Patients whose marker is unknown are left out, and so are those that are missing in the table; the log tells how
    many.

    Args:
        dataset_dir: see :func:`find_patients`.
        labels: table of markers, see :func:`custom_apps.brain.labels_table.read_labels`; by default the one that lies
            in the data set's folder.
        task: ``idh`` (0 wild type, 1 mutated), ``1p19q`` (0 intact, 1 co-deleted), or ``pretraining``: every patient,
            table or not.
        cases: names to keep, in any order; None for all.

    Returns:
        Dictionaries with ``case``, ``patient`` (to keep examinations of one person together), ``image`` (four paths in
        the order of the channels), ``mask`` (path of the tumor mask, or ""), ``idh``, ``codeletion``, ``grade`` (-1
        unknown) and ``label`` (-1 for pre-training).

    Raises:
        DataError: a contrast missing, no table for a task with labels, no patient left, or a name in ``cases`` that
            there is not.
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    root, patients = Path(dataset_dir), find_patients(dataset_dir)
    if cases is not None:
        if absent := sorted(set(cases) - {patient.case for patient in patients}):
            raise DataError(root, f"no patient {', '.join(absent[:5])}", "patients of this data set")
        patients = [patient for patient in patients if patient.case in set(cases)]
    table = find_labels(root) if labels is None else Path(labels)
    if table is None and task != "pretraining":
        raise DataError(root, "no table of molecular markers", "labels.csv, or a path given as labels")
    markers = read_labels(table) if table else {}
    records = [_record(patient, markers, task) for patient in patients]
    absent = [patient.case for patient in patients if patient.case not in markers and patient.patient not in markers]
    if task == "pretraining":
        return records
    if absent:
        logger.warning("%d patients are not in %s and left out: %s", len(absent), table, _some(absent))
    if orphans := sorted(set(markers) - {name for patient in patients for name in (patient.case, patient.patient)}):
        logger.warning("%d rows of %s have no images: %s", len(orphans), table, _some(orphans))
    known = [record for record in records if record["label"] != UNKNOWN]
    if unknown := len(records) - len(absent) - len(known):
        logger.info("%d of %d patients have no known %s status", unknown, len(records) - len(absent), task)
    if not known:
        raise DataError(table, f"no patient with images and known {task} status", "labels 0 and 1")
    return known


def _record(patient: Patient, markers: dict[str, Markers], task: str) -> dict[str, Any]:
    known = markers.get(patient.case) or markers.get(patient.patient) or Markers()
    label = {"idh": known.idh, "1p19q": known.codeletion, "pretraining": UNKNOWN}[task]
    return {
        "case": patient.case,
        "patient": patient.patient,
        "image": [str(path) for path in patient.images()],
        "mask": str(patient.files.get(MASK, "")),
        "idh": known.idh,
        "codeletion": known.codeletion,
        "grade": known.grade,
        "label": label,
    }


def _some(names: Sequence[str], count: int = 5) -> str:
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")
