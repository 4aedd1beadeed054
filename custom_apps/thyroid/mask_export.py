"""Predicted masks of images written as files of the images' own size, and a table of what was found."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from custom_apps.common.distributed import is_main_process, wait_for_all, world_size
from custom_apps.common.errors import DataError
from custom_apps.common.gathering import gather_rows
from custom_apps.common.table import write_csv
from custom_apps.thyroid.image_file import read_image
from custom_apps.thyroid.overlays import save_picture, with_outlines
from custom_apps.thyroid.restoration import PROBABILITY
from custom_apps.thyroid.segmentation_metrics import NODULE

ENDINGS = {"mask": "_mask.png", "overlay": "_overlay.png", "probability": "_probability.png"}
TABLE = "nodules.csv"
SAVE_EVERY = 20


def endings(kinds: Sequence[str]) -> list[str]:
    """Endings of the files that a case gets.

    Raises:
        ValueError: for an unknown kind.
    """
    if unknown := [kind for kind in kinds if kind not in ENDINGS]:
        raise ValueError(f"kinds are {', '.join(ENDINGS)}, got {', '.join(unknown)}")
    return [ENDINGS[kind] for kind in kinds]


class SaveMasks:
    """Handler of an evaluator that writes what :class:`~custom_apps.thyroid.restoration.RestoreMaskd` gives.

    ``<case>_mask.png`` is 0 and 255, ``<case>_probability.png`` the probability of the nodule from 0 to 255,
    ``<case>_overlay.png`` the image with the outline. ``nodules.csv`` has for each image its pixels, those of the
    nodule, the share, the number of separate parts and the highest probability; rows of earlier runs in it are kept.

    Args:
        output_dir: where files go.
        records: items that are predicted, with ``case``, ``image`` (path) and ``file_name``.
        kinds: which files to write.
        overwrite: replace files and forget what is in the table.
    """

    def __init__(
        self,
        output_dir: str | Path,
        records: Sequence[Mapping[str, Any]],
        kinds: Sequence[str] = ("mask", "overlay"),
        overwrite: bool = False,
    ):
        endings(kinds)
        self.output_dir, self.kinds, self.overwrite = Path(output_dir), tuple(kinds), overwrite
        self.records = {str(record["case"]): record for record in records}
        self.rows: list[dict[str, Any]] = []
        self._earlier: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.STARTED, lambda: self._begin())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._save)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def add(self, case: str, mask: np.ndarray, probability: np.ndarray) -> None:
        """Writes the files of one image.

        Args:
            case: name of the image, one of the records.
            mask: class of each pixel (H, W).
            probability: of the nodule, float (H, W).

        Raises:
            DataError: a file is there already and may not be replaced.
        """
        from scipy.ndimage import label

        record, nodule = self.records[case], mask == NODULE
        pictures = {
            "mask": lambda: nodule.astype(np.uint8) * 255,
            "probability": lambda: np.rint(probability * 255).astype(np.uint8),
            "overlay": lambda: with_outlines(read_image(record["image"]), nodule),
        }
        for kind in self.kinds:
            path = self.output_dir / f"{case}{ENDINGS[kind]}"
            if path.exists() and not self.overwrite:
                raise DataError(path, "already there and not overwritten", "existing: skip or overwrite")
            save_picture(pictures[kind](), path)
        self.rows.append(
            {
                "file_name": record["file_name"],
                "pixels": nodule.size,
                "nodule_pixels": int(nodule.sum()),
                "nodule_share": float(nodule.mean()),
                "parts": int(label(nodule)[1]),
                "highest_probability": float(probability.max()),
            }
        )

    def _begin(self) -> None:
        self.rows, self._earlier = [], []
        path = self.output_dir / TABLE
        if not self.overwrite and path.is_file():
            with open(path, newline="", encoding="utf-8") as file:
                self._earlier = list(csv.DictReader(file))

    def _save(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            # A transform may leave its further results in the batch item.
            found = {**item, **output}
            arrays = [torch.as_tensor(found[key]).cpu().numpy() for key in ("pred", PROBABILITY)]
            self.add(str(item["case"]), *arrays)
        if world_size() == 1 and engine.state.iteration % SAVE_EVERY == 0:
            self._write(self.rows)

    def _finish(self, engine: Engine) -> None:
        rows = gather_rows(self.rows)
        if is_main_process() and rows:
            self._write(rows)
            engine.logger.info("masks of %d images in %s", len(rows), self.output_dir)
        wait_for_all()

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        write_csv(sorted([*self._earlier, *rows], key=lambda row: row["file_name"]), self.output_dir / TABLE)
