"""Pictures of the images that a classifier was furthest off with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from custom_apps.common.classification_evaluation import probability_of_class_1
from custom_apps.common.worst_cases import WorstCases
from custom_apps.thyroid.image_file import read_image
from custom_apps.thyroid.overlays import save_picture


class WorstImages(WorstCases):
    """The images whose class got the least probability.

    Args:
        folder: see :class:`~custom_apps.common.worst_cases.WorstCases`.
        records: of the evaluator's images, see `custom_apps.thyroid.records`; the files are read again.
        class_names: of class 0 and 1.
        cases: how many.
    """

    def __init__(
        self,
        folder: str | Path,
        records: Sequence[Mapping[str, Any]],
        class_names: Sequence[str] = ("0", "1"),
        cases: int = 3,
    ):
        super().__init__(folder, cases)
        self.paths = {str(record["case"]): record["image"] for record in records}
        self.class_names = tuple(class_names)

    def row(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Probability of the right class."""
        label = int(torch.as_tensor(item["label"]).reshape(()))
        probability = probability_of_class_1(item["pred"])
        right = probability if label else 1 - probability
        note = f"{self.class_names[label]}, predicted with probability {right:.3f}"
        return {"case": str(item["case"]), "badness": -right, "note": note, "caption": ""}

    def draw(self, row: Mapping[str, Any], path: Path) -> None:
        """Writes the image."""
        save_picture(read_image(self.paths[row["case"]]), path)
