"""Integrity of a data set in nnU-Net's raw layout: every problem, before any work is done on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.common.errors import DataError
from custom_apps.common.problems import WARNING, Problem
from custom_apps.seg.case_pool import processes_for, run_cases
from custom_apps.seg.raw_dataset import Case, RawDataset
from custom_apps.seg.volume_io import geometry_problem

POSITION_TOLERANCE_MM = 1e-3
PREPARED_SUFFIXES = ("_seg", "_locations")


def check_dataset(
    folder: str | Path | RawDataset, num_processes: int | None = None, test: bool = True
) -> list[Problem]:
    """Reads a whole data set and lists what is wrong with it.

    Errors: description missing, broken or incomplete; wrong ending, missing channel or label map, empty folder;
    ``numTraining`` that is not the number of cases; unreadable, truncated or 4D files; NaN; channels or label map of
    another shape or spacing; undeclared labels. Warnings: origin or direction of a label map that differ from its
    image's, an image that is zero everywhere, a data set without a single foreground voxel.

    Args:
        folder: the data set, or its reader.
        num_processes: processes that read files; by default as many as its size is worth.
        test: whether to look at ``imagesTs``, ``labelsTs`` and ``unlabeledTr`` too.

    Returns:
        The problems, none for a sound data set.
    """
    try:
        dataset = folder if isinstance(folder, RawDataset) else RawDataset(folder)
        cases, listing = dataset.list_training_cases()
        further = (dataset.list_test_cases(), dataset.list_unlabeled_cases()) if test else ()
    except DataError as error:
        return [Problem.of(error)]
    problems = [Problem.of(error) for error in (*listing, *(error for _, errors in further for error in errors))]
    other_cases = [case for found, _ in further for case in found]
    problems += _unpaired_labels(dataset, cases, listing) + _colliding_names(dataset, cases)
    if not listing and dataset.num_training != len(cases):
        problems.append(
            Problem(str(dataset.path), f"numTraining is {dataset.num_training}", f"{len(cases)}, the cases")
        )
    processes = processes_for(total_bytes([*cases, *other_cases]), num_processes)
    arguments = [(dataset, case) for case in (*cases, *other_cases)]
    findings = run_cases(check_case, arguments, processes, "check")
    problems += [problem for found, _ in findings for problem in found]
    if cases and not any(has_foreground for _, has_foreground in findings[: len(cases)]):
        problems.append(Problem(str(dataset.folder), "no training case has a foreground voxel", "labels", WARNING))
    return problems


def total_bytes(cases: Sequence[Case]) -> int:
    """Size of the files of cases."""
    return sum(path.stat().st_size for case in cases for path in (*case.images, *([case.label] if case.label else [])))


def check_case(dataset: RawDataset, case: Case) -> tuple[list[Problem], bool]:
    """Problems of one case, and whether it has a foreground voxel."""
    problems, image, seg = [], None, None
    try:
        image, image_properties = dataset.read_image(case)
        if not image.any():
            problems.append(Problem(str(case.images[0]), "image is zero everywhere", "intensities", WARNING))
    except DataError as error:
        problems.append(Problem.of(error))
    if case.label is None:
        return problems, False
    try:
        seg, label_properties = dataset.read_label(case)
    except DataError as error:
        problems.append(Problem.of(error))
    if image is not None and seg is not None:
        if found := geometry_problem(seg.shape[1:], label_properties, image.shape[1:], image_properties):
            problems.append(Problem(str(case.label), found[0], f"{found[1]} as {case.images[0].name}"))
        problems += _position_warnings(case, label_properties, image_properties)
    if seg is None:
        return problems, False
    declared = set(dataset.labels.all_labels) | {dataset.labels.ignore_label}
    present = np.unique(seg).tolist()
    if undeclared := [label for label in present if label not in declared]:
        expected = f"labels {sorted(declared - {None})} as in dataset.json"
        problems.append(Problem(str(case.label), f"has the undeclared labels {undeclared}", expected))
    return problems, any(label in dataset.labels.foreground_labels for label in present)


def _position_warnings(case: Case, found: dict[str, Any], expected: dict[str, Any]) -> list[Problem]:
    """Origin and direction, which the label map should share with its image but which nothing depends on."""
    if "sitk" not in found or "sitk" not in expected:
        return []
    warnings = []
    for key in ("origin", "direction"):
        ours, theirs = found["sitk"][key], expected["sitk"][key]
        if len(ours) == len(theirs) and not np.allclose(ours, theirs, rtol=0, atol=POSITION_TOLERANCE_MM):
            problem = f"{key} is {np.round(ours, 4).tolist()}"
            expectation = f"{np.round(theirs, 4).tolist()} as {case.images[0].name}"
            warnings.append(Problem(str(case.label), problem, expectation, WARNING))
    return warnings


def _unpaired_labels(dataset: RawDataset, cases: Sequence[Case], listing: Sequence[DataError]) -> list[Problem]:
    """Label maps that belong to no image; not looked for when the images' own listing is at fault."""
    folder = dataset.folder / "labelsTr"
    if listing or "dataset" in dataset.description or not folder.is_dir():
        return []
    paired = {case.label.name for case in cases if case.label}
    spare = sorted(path for path in folder.glob(f"*{dataset.file_ending}") if path.name not in paired)
    return [Problem(str(path), "label map without an image", "an image of that name in imagesTr") for path in spare]


def _colliding_names(dataset: RawDataset, cases: Sequence[Case]) -> list[Problem]:
    """Case names that the files of another prepared case would have."""
    names = {case.identifier for case in cases}
    taken = sorted(name + suffix for name in names for suffix in PREPARED_SUFFIXES if name + suffix in names)
    return [
        Problem(str(dataset.folder), f"case '{name}' is named as a file of another case", "a name that ends otherwise")
        for name in taken
    ]
