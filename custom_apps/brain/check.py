"""Integrity of a data set of brain tumors: every problem, before any work is done on it."""

from __future__ import annotations

import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from custom_apps.brain.contrasts import CONTRASTS, MASK
from custom_apps.brain.labels_table import UNKNOWN, find_labels, read_labels
from custom_apps.brain.loading import UNPREPARED, read_contrast
from custom_apps.brain.patients import Patient, find_patients
from custom_apps.brain.prepare import LARGEST_FOREGROUND, RECORD
from custom_apps.common.errors import DataError
from custom_apps.common.problems import WARNING, Problem
from custom_apps.common.volume_file import Volume, grid_problem

LEAST_FOREGROUND = 0.01
"""Part of the voxels; where fewer are not zero there is no brain."""


def check_dataset(folder: str | Path, labels: str | Path | None = None) -> list[Problem]:
    """Reads a whole data set and lists what is wrong with it, raw or prepared; layouts are recognized by the files.

    Errors: a contrast missing or there several times, unreadable or truncated, with NaN or infinite values, all zero or
    constant, on another grid than the others; an unreadable table, a patient twice in it, a value it must not have. In
    a prepared data set also: another size than it was prepared for, values that are not whole or outside 0 to 255.

    Warnings: patients that are not in the table, rows without images, no table, no known status of a task, few
    patients of a class; volumes that hardly have zeros, as when the skull is still there; a tumor mask that is empty,
    unreadable or on another grid; one file for two contrasts.

    Args:
        folder: the data set.
        labels: table of markers; by default the one in the folder.

    Returns:
        The problems, none for a sound data set.
    """
    root = Path(folder)
    try:
        patients = find_patients(root)
        size = _prepared_size(root / RECORD)
    except DataError as error:
        return [Problem.of(error)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = [
            problem for found in pool.map(lambda item: _check_patient(item, size), patients) for problem in found
        ]
    problems += _twice(patients)
    return problems + _check_labels(root, patients, labels)


def _prepared_size(record: Path) -> tuple[int, ...] | None:
    """Size that volumes of a prepared data set have; None for raw ones."""
    if not record.is_file():
        return None
    try:
        return tuple(int(n) for n in json.loads(record.read_text(encoding="utf-8"))["settings"]["size"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(record, f"is no record of a preparation ({error})", "what 'prepare' writes") from error


def _check_patient(patient: Patient, size: tuple[int, ...] | None) -> list[Problem]:
    problems = []
    try:
        patient.images()
    except DataError as error:
        problems.append(Problem.of(error))
    volumes: list[Volume] = []
    for name in CONTRASTS:
        if name not in patient.files:
            continue
        try:
            volume = read_contrast(patient.files[name])
        except DataError as error:
            problems.append(Problem.of(error))
            continue
        problems += _check_values(volume, size)
        if volumes and (problem := _compared(volume, volumes[0])):
            problems.append(Problem(str(volume.path), problem[0], f"{problem[1]} as in {volumes[0].path.name}"))
        volumes.append(volume)
    identical = [
        f"{first.path.name} and {second.path.name}"
        for number, first in enumerate(volumes)
        for second in volumes[number + 1 :]
        if first.array.shape == second.array.shape and np.array_equal(first.array, second.array)
    ]
    problems += [Problem(str(patient.folder), f"{pair} are the same image", "two contrasts") for pair in identical]
    if MASK in patient.files and volumes:
        problems += _check_mask(patient.files[MASK], volumes[0])
    return problems


def _compared(volume: Volume, first: Volume) -> tuple[str, str] | None:
    return grid_problem(volume.array.shape, volume.affine, first.array.shape, first.affine)


def _check_values(volume: Volume, size: tuple[int, ...] | None) -> list[Problem]:
    array, path = volume.array, str(volume.path)
    if array.min() == array.max():
        return [Problem(path, f"every voxel is {float(array.flat[0]):g}", "an image")]
    problems = []
    filled = int((array != 0).sum())
    if filled < LEAST_FOREGROUND * array.size:
        problems.append(Problem(path, f"only {filled} voxels are not zero", "an image of a brain"))
    elif filled > LARGEST_FOREGROUND * array.size:
        problems.append(
            Problem(path, f"{filled / array.size:.0%} of the voxels are not zero", "a stripped skull", WARNING)
        )
    if size is None and volume.path.suffix != ".npy":
        return problems
    if size is not None and array.shape != size:
        problems.append(Problem(path, f"volume has shape {array.shape}", f"{size}, as {RECORD} says"))
    if array.min() < 0 or array.max() > 255 or (array != np.rint(array)).any():
        problems.append(Problem(path, f"values from {array.min():g} to {array.max():g}, whole or not", UNPREPARED))
    return problems


def _check_mask(path: Path, image: Volume) -> list[Problem]:
    try:
        mask = read_contrast(path)
    except DataError as error:
        return [Problem.of(error, WARNING)]
    if problem := _compared(mask, image):
        return [Problem(str(path), problem[0], f"{problem[1]} as in {image.path.name}", WARNING)]
    if not (mask.array > 0).any():
        return [Problem(str(path), "no voxel is tumor", "a tumor mask", WARNING)]
    return []


def _twice(patients: list[Patient]) -> list[Problem]:
    counts = Counter(patient.case for patient in patients)
    return [
        Problem(str(patient.folder), f"another folder is named {patient.case} too", "one of each name")
        for patient in patients
        if counts[patient.case] > 1
    ]


def _check_labels(root: Path, patients: list[Patient], labels: str | Path | None) -> list[Problem]:
    path = find_labels(root) if labels is None else Path(labels)
    if path is None:
        return [Problem(str(root), "no table of molecular markers", "labels.csv; pre-training needs none", WARNING)]
    try:
        markers = read_labels(path)
    except DataError as error:
        return [Problem.of(error)]
    names = {name for patient in patients for name in (patient.case, patient.patient)}
    problems = [
        Problem(str(patient.folder), f"is not in {path.name}", "a row for every patient; it is left out", WARNING)
        for patient in patients
        if patient.case not in markers and patient.patient not in markers
    ]
    problems += [
        Problem(str(path), f"{name} has no images", "a folder for every row", WARNING)
        for name in sorted(set(markers) - names)
    ]
    known = [markers.get(patient.case) or markers.get(patient.patient) for patient in patients]
    for task, values in (
        ("IDH", [item.idh for item in known if item]),
        ("1p/19q", [item.codeletion for item in known if item]),
    ):
        counts = Counter(value for value in values if value != UNKNOWN)
        if len(counts) < 2:
            found = f"no patient of both {task} classes" if counts else f"no known {task} status"
            problems.append(Problem(str(path), found, "patients of both classes", WARNING))
        elif min(counts.values()) < 5:
            found = f"only {min(counts.values())} patients of the rarer {task} class"
            problems.append(Problem(str(path), found, "5, for five folds", WARNING))
    return problems
