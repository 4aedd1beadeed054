"""Preparation of patients and whole data sets on disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

from custom_apps.brain.contrasts import CONTRASTS, MASK
from custom_apps.brain.labels_table import COLUMNS, TABLE, find_labels, read_labels, write_labels
from custom_apps.brain.patients import Patient, find_patients
from custom_apps.brain.pictures import draw_examination
from custom_apps.brain.preparation import Preparation, prepare_images
from custom_apps.common.disk_space import require_space
from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import write_json
from custom_apps.common.problems import WARNING, Problem
from custom_apps.common.volume_file import write_nifti

logger = logging.getLogger(__name__)

RECORD = "preparation.json"
LARGEST_FOREGROUND = 0.75
COMPRESSED_BYTES = 2
"""Of a voxel of four contrasts on disk, about."""


def prepare_dataset(
    raw_dir: str | Path,
    output_dir: str | Path,
    labels: str | Path | None = None,
    size: int | Sequence[int] = 160,
    spacing_mm: float = 1.0,
    fit: str = "crop",
    resample: bool = False,
    pictures: bool = True,
    workers: int = 1,
) -> list[Problem]:
    """Prepares every patient of a data set; what was prepared with the same settings before is kept.

    ``output_dir`` gets a folder a patient, see :func:`prepare_patient`, the settings (``preparation.json``) and, where
    the data set has a table of markers, ``labels.csv``.

    Args:
        raw_dir: see :func:`custom_apps.brain.patients.find_patients`; also the folder of a single patient.
        output_dir: made when missing.
        labels: table of markers; by default the one in ``raw_dir``.
        size: voxels along every axis.
        spacing_mm: edge of a voxel.
        fit: ``crop`` or ``resize``, see :class:`custom_apps.brain.preparation.Preparation`.
        resample: accept contrasts on different grids.
        pictures: also write a picture of each examination.
        workers: patients at a time.

    Returns:
        What went wrong with single patients, and what looks odd.

    Raises:
        DataError: no patient, a table that cannot be read, or ``output_dir`` prepared with other settings.
    """
    output = Path(output_dir)
    preparation = Preparation(size, spacing_mm, fit, resample=resample)
    patients = find_patients(raw_dir)
    table = find_labels(raw_dir) if labels is None else Path(labels)
    markers = read_labels(table) if table else {}
    settings = json.loads(json.dumps(asdict(preparation)))
    _refuse_other_settings(output / RECORD, settings)
    write_json({"settings": settings, "orientation": "RAS", "channels": list(CONTRASTS)}, output / RECORD)
    problems: list[Problem] = []
    done = sum((output / patient.case / f"{patient.case}.json").is_file() for patient in patients)
    require_space(output, (len(patients) - done) * prod(preparation.size) * COMPRESSED_BYTES, "the prepared volumes")

    def work(patient: Patient) -> dict[str, Any] | Problem:
        try:
            return prepare_patient(patient, output, preparation, pictures)
        except DataError as error:
            return Problem.of(error)

    records: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for number, (patient, result) in enumerate(zip(patients, pool.map(work, patients), strict=True), start=1):
            if isinstance(result, Problem):
                problems.append(result)
            else:
                records[str(patient.folder)] = result
            if number % 50 == 0 or number == len(patients):
                logger.info("prepared %d of %d patients", number, len(patients))
    if markers:
        rows = [
            dict(zip(COLUMNS, (name, known.idh, known.codeletion, known.grade), strict=True))
            for name, known in markers.items()
        ]
        write_labels(rows, output / TABLE)
    return problems + _oddities(records, output)


def prepare_patient(
    patient: Patient, output_dir: str | Path, preparation: Preparation | None = None, picture: bool = True
) -> dict[str, Any]:
    """Prepares one examination.

    Writes ``<case>/<case>_t1.nii.gz``, ``_t2``, ``_t1ce``, ``_flair`` and, where there is a tumor mask, ``_seg`` with
    their place in space, a picture ``<case>.png``, and last ``<case>.json``, which tells what was done. Does nothing if
    that is there already with the same settings.

    Returns:
        What was done, the content of ``<case>.json``.

    Raises:
        DataError: see :func:`custom_apps.brain.preparation.prepare_images`; or prepared already with other settings.
    """
    preparation = preparation or Preparation()
    folder = Path(output_dir) / patient.case
    record = folder / f"{patient.case}.json"
    if record.is_file():
        content = json.loads(record.read_text(encoding="utf-8"))
        if content.get("settings") == json.loads(json.dumps(asdict(preparation))):
            return content
        raise DataError(record, "prepared already with other settings", "another output folder")
    prepared = prepare_images(patient.images(), patient.files.get(MASK), preparation)
    for name, channel in zip(CONTRASTS, prepared.image, strict=True):
        write_nifti(channel, prepared.affine, folder / f"{patient.case}_{name}.nii.gz", overwrite=True)
    if prepared.mask is not None:
        write_nifti(prepared.mask, prepared.affine, folder / f"{patient.case}_{MASK}.nii.gz", overwrite=True)
    if picture:
        draw_examination(prepared.image, folder / f"{patient.case}.png", patient.case, prepared.mask)
    # Last, so that it marks a complete patient.
    content = {"case": patient.case, **prepared.record}
    write_json(content, record)
    return content


def _oddities(records: Mapping[str, Mapping[str, Any]], output: Path) -> list[Problem]:
    """Warnings about volumes that do not look as expected."""
    problems = [
        Problem(folder, f"{record['foreground_share']:.0%} of the voxels are not zero", "a stripped skull", WARNING)
        for folder, record in records.items()
        if record["foreground_share"] > LARGEST_FOREGROUND
    ]
    if cut := {folder: max(record["cut_mm"]) for folder, record in records.items() if any(record["cut_mm"])}:
        most = max(cut, key=cut.get)
        text = f"{len(cut)} of {len(records)} brains are cut, by {cut[most]:g} mm at most ({Path(most).name})"
        problems.append(Problem(str(output), text, "a size that holds them, or fit resize", WARNING))
    return problems


def _refuse_other_settings(path: Path, settings: dict) -> None:
    if not path.is_file():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(path, "is no record of a preparation", "another output folder") from error
    if found != settings:
        different = ", ".join(f"{key} {found.get(key)}" for key in settings if found.get(key) != settings[key])
        raise DataError(path, f"prepared already with {different}", "the same settings, or another output folder")
