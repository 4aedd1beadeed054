"""Lists of cases as a MONAI data set takes them: dictionaries of file names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from custom_apps.common.errors import DataError
from custom_apps.common.prediction_items import without_earlier
from custom_apps.seg.input_cases import input_cases
from custom_apps.seg.raw_dataset import Case, RawDataset
from custom_apps.seg.volume_io import file_ending

CaseItem = dict[str, str | list[str]]


def labelled_cases(
    dataset_dir: str | Path, names: Sequence[str] | None = None, part: str = "training"
) -> list[CaseItem]:
    """Cases with a reference label map, for evaluation.

    Args:
        dataset_dir: data set in nnU-Net's raw layout.
        names: cases to take, for example those of a fold; by default all.
        part: ``training`` (imagesTr, labelsTr) or ``test`` (imagesTs, labelsTs).

    Returns:
        ``{"case", "image": [file of each channel], "label": file}`` of each case, by name.

    Raises:
        DataError: if a named case is not there or has no label map, or no case is left.
    """
    if part not in ("training", "test"):
        raise ValueError(f"part must be 'training' or 'test', got {part!r}")
    dataset = RawDataset(dataset_dir)
    found = {case.identifier: case for case in (dataset.training_cases if part == "training" else dataset.test_cases)}
    folder = Path(dataset_dir) / ("imagesTr" if part == "training" else "imagesTs")
    if missing := sorted(set(names or ()) - set(found)):
        raise DataError(folder, f"no case '{missing[0]}'", f"one of the {len(found)} cases there")
    cases = [found[name] for name in sorted(found if names is None else names)]
    if bare := [case for case in cases if case.label is None]:
        raise DataError(bare[0].images[0], "has no label map", "one in the folder of labels, to score against")
    if not cases:
        raise DataError(folder, "no cases", "images with label maps")
    return [_item(case) | {"label": str(case.label)} for case in cases]


def cases_to_predict(
    images_dir: str | Path,
    description_dir: str | Path,
    output_dir: str | Path | None = None,
    existing: str = "error",
    part: int = 0,
    parts: int = 1,
) -> list[CaseItem]:
    """Cases of a folder of images, for prediction.

    Args:
        images_dir: images named ``{case}_{channel:04d}{ending}``, or a data set whose ``imagesTs`` are meant; also a
            single file, files of other names and DICOM series, see :func:`custom_apps.seg.input_cases.input_cases`.
        description_dir: folder of the ``dataset.json`` that names channels and file ending, such as a model's folder.
        output_dir: where predictions go, looked at for earlier ones.
        existing: what to do about a case predicted before: ``error``, ``skip`` it (continue a broken run) or
            ``overwrite`` (the writer must be told too).
        part: share of the cases to take when several processes divide them, from 0.
        parts: number of shares.

    Returns:
        ``{"case", "image": [file of each channel, or folder of a DICOM series]}`` of each case, by name; possibly none
        with ``skip``.

    Raises:
        DataError: for files that make no complete case, and for an earlier prediction under ``error``.
    """
    if not 0 <= part < parts:
        raise ValueError(f"part must be in 0..{parts - 1}, got {part}")
    dataset = RawDataset(description_dir)
    items = [_item(case) for case in input_cases(images_dir, dataset)[part::parts]]
    left: list[CaseItem] = []
    for item in items:
        left += without_earlier([item], output_dir, [file_ending(item["image"][0])], existing)
    return left


def _item(case: Case) -> CaseItem:
    return {"case": case.identifier, "image": [str(path) for path in case.images]}
