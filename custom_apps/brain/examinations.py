"""Examinations to predict: raw or prepared, one patient or many, and how they become the network's input."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from custom_apps.brain.contrasts import MASK
from custom_apps.brain.loading import LoadPreparedd
from custom_apps.brain.patients import Patient, find_patients, read_patient
from custom_apps.brain.preparation import Preparation, prepare_images
from custom_apps.common.distributed import rank, world_size
from custom_apps.common.errors import DataError
from custom_apps.common.prediction_items import without_earlier

logger = logging.getLogger(__name__)

TABLE = "markers.csv"


def examinations_to_predict(
    source: str | Path, output_dir: str | Path | None = None, existing: str = "error"
) -> list[dict[str, Any]]:
    """Examinations for prediction; in a distributed run the share of this process.

    Args:
        source: the folder of one patient (four NIfTI files or folders of DICOM slices, named by contrast), or a data
            set, see :func:`custom_apps.brain.patients.find_patients`. Both may be prepared already.
        output_dir: where results go, looked at for an earlier table.
        existing: what to do about patients predicted before: ``error``, ``skip`` them (continue a broken run) or
            ``overwrite`` (the writers must be told too).

    Returns:
        Dictionaries with ``case`` (also as ``file_name``, as in the table), ``image`` (four paths), ``mask`` (path of a
        tumor mask, or "") and ``record`` (path of what preparation recorded, or "" for what is not prepared); possibly
        none with ``skip``.

    Raises:
        DataError: no patient there, a contrast missing, or an earlier prediction under ``error``.
    """
    items = [_item(patient) for patient in _patients(Path(source))]
    return without_earlier(items, output_dir, existing=existing, shared_table=TABLE)[rank() :: world_size()]


class PrepareExaminationd(MapTransform):
    """Replaces four paths by a volume as the network was trained on: uint8 (4, x, y, z), prepared now if need be.

    Adds ``tumor`` (uint8, (x, y, z)) where the item has a ``mask``, and ``original_shape`` and ``original_affine``, the
    grid of the files before preparation, where it is known.

    Args:
        keys: usually ``image``.
        size: voxels along every axis.
        spacing_mm: edge of a voxel.
        fit: ``crop`` or ``resize``, see :class:`custom_apps.brain.preparation.Preparation`.
        resample: accept contrasts on different grids.
        allow_missing_keys: as in MONAI.

    Raises:
        DataError: see :func:`custom_apps.brain.preparation.prepare_images` and
            :class:`custom_apps.brain.loading.LoadPreparedd`.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        size: Sequence[int] = (160, 160, 160),
        spacing_mm: float = 1.0,
        fit: str = "crop",
        resample: bool = False,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.preparation = Preparation(tuple(size), spacing_mm, fit, resample=resample)
        self.load = LoadPreparedd(keys, self.preparation.size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Prepares or loads each key."""
        result = dict(data)
        for key in self.key_iterator(result):
            mask = result.pop("mask", "")
            if result.pop("record", ""):
                record = read_record(data["record"])
                result[key] = self.load.load(result[key])
                tumor = np.asarray(nibabel.load(mask).dataobj) if mask else None
            else:
                prepared = prepare_images(result[key], mask or None, self.preparation)
                record, tumor = prepared.record, prepared.mask
                if any(record["cut_mm"]):
                    logger.warning("%s: the brain is cut by %s mm along its axes", data[key][0], record["cut_mm"])
                result[key] = MetaTensor(torch.from_numpy(prepared.image), affine=torch.from_numpy(prepared.affine))
            result["original_shape"] = torch.tensor(record["original_shape"])
            result["original_affine"] = torch.tensor(record["original_affine"], dtype=torch.float64)
            if tumor is not None:
                result["tumor"] = torch.from_numpy((tumor > 0).astype(np.uint8))
        return result


def read_record(path: str | Path) -> dict[str, Any]:
    """What preparation recorded about an examination.

    Raises:
        DataError: unreadable, or without the original grid.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        np.array(record["original_affine"], float).reshape(4, 4)
        np.array(record["original_shape"], int).reshape(3)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(path, f"is no record of a preparation ({error!r})", "the file that 'prepare' wrote") from error
    return record


def _patients(source: Path) -> list[Patient]:
    if source.is_dir() and len(read_patient(source).files) > 1:
        return [read_patient(source)]
    return find_patients(source)


def _item(patient: Patient) -> dict[str, Any]:
    record = patient.folder / f"{patient.case}.json"
    return {
        "case": patient.case,
        "file_name": patient.case,
        "image": [str(path) for path in patient.images()],
        "mask": str(patient.files.get(MASK, "")),
        "record": str(record) if record.is_file() else "",
    }
