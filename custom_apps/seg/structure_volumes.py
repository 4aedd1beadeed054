"""Volumes of predicted structures, as a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from custom_apps.common.table import write_csv
from custom_apps.seg.case_loading import CASE, PROPERTIES
from custom_apps.seg.labels import BACKGROUND, IGNORE
from custom_apps.seg.model_folder import ModelFolder
from custom_apps.seg.restored_ids import output_ids

COLUMNS = ("case", "structure", "voxels", "volume_ml")
SAVE_EVERY = 20


def structures_of(model: ModelFolder, restored: bool = False) -> dict[str, tuple[int, ...]]:
    """Name of each structure to its ids in a predicted label map; those of regions may overlap.

    Args:
        model: whose labels they are.
        restored: whether the map has the ids that :func:`custom_apps.seg.restored_ids.output_ids` prescribes.
    """
    other = output_ids(model) if restored else {}
    declared = {name: (ids,) if isinstance(ids, int) else ids for name, ids in model.labels.declared.items()}
    return {
        name: tuple(other.get(label, label) for label in ids)
        for name, ids in declared.items()
        if name not in (BACKGROUND, IGNORE)
    }


class SaveVolumes:
    """Handler of an evaluator that writes a row for each case and structure: number of voxels, volume in ml.

    Takes the label map in ``pred``, as :class:`~custom_apps.seg.case_export.RestoreSegmentationd` leaves it. Pictures
    and flat images have no volume. Rows of other cases that an earlier run left in the table stay.

    Args:
        path: the table.
        model: whose labels they are.
        restored: see :func:`structures_of`.
    """

    def __init__(self, path: str | Path, model: ModelFolder, restored: bool = False):
        self.path, self.structures = Path(path), structures_of(model, restored)
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.STARTED, lambda: self._begin())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, lambda: self._write())

    def add(self, case: str, labels: np.ndarray, properties: Mapping[str, Any]) -> None:
        """Counts the voxels of one label map.

        Args:
            case: its name; rows that it had are replaced.
            labels: of any shape.
            properties: as read with the image.
        """
        spacing_mm = properties["spacing"] if len(properties.get("sitk", {}).get("spacing", ())) == 3 else None
        voxel_ml = None if spacing_mm is None else float(np.prod(spacing_mm)) / 1000
        self.rows[case] = [
            {
                "case": case,
                "structure": name,
                "voxels": (count := int(np.isin(labels, ids).sum())),
                "volume_ml": None if voxel_ml is None else count * voxel_ml,
            }
            for name, ids in self.structures.items()
        ]

    def _begin(self) -> None:
        self.rows = {}
        if self.path.is_file():
            with open(self.path, newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    self.rows.setdefault(row["case"], []).append(row)

    def _collect(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.add(str(item[CASE]), torch.as_tensor(output["pred"]).cpu().numpy(), json.loads(item[PROPERTIES]))
        if engine.state.iteration % SAVE_EVERY == 0:
            self._write()

    def _write(self) -> None:
        if self.rows:
            write_csv([row for case in sorted(self.rows) for row in self.rows[case]], self.path, COLUMNS)
