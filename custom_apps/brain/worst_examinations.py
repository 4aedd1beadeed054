"""Pictures of the examinations that the networks were furthest off with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.brain.contrasts import CONTRASTS, TITLES
from custom_apps.brain.pictures import plane, show
from custom_apps.common.figures import figure
from custom_apps.common.worst_cases import WorstCases

SHOWN_PLANES = ("axial", "coronal")
BRIGHTEST = 99.8
FLAIR = CONTRASTS.index("flair")


class WorstExaminations(WorstCases):
    """The cases whose class got the least probability, by the model that has not seen them.

    Args:
        folder: see :class:`~custom_apps.common.worst_cases.WorstCases`.
        class_names: of class 0 and 1.
        cases: how many.
    """

    def __init__(self, folder: str | Path, class_names: Sequence[str] = ("0", "1"), cases: int = 3):
        super().__init__(folder, cases)
        self.class_names = tuple(class_names)

    def row(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Probability of the right class, and slices through the brightest part of FLAIR."""
        label = int(item["label"])
        right = float(item["pred"].detach().double().flatten().softmax(0)[label])
        image = item["image"].float().cpu().numpy()
        index = brightest_part(image[FLAIR])
        return {
            "case": str(item["case"]),
            "badness": -right,
            "note": f"{self.class_names[label]}, predicted with probability {right:.3f}; fold {int(item['fold'])}",
            "caption": "Slices through the brightest part of FLAIR, the patient's right on the left.",
            "slices": [[plane(volume, index, name).astype(np.float32) for volume in image] for name in SHOWN_PLANES],
        }

    def draw(self, row: Mapping[str, Any], path: Path) -> None:
        """Draws all contrasts in two planes."""
        with figure(path, len(SHOWN_PLANES), len(CONTRASTS), 2.1, 2.2) as (_, grid):
            for number, (axes_row, slices) in enumerate(zip(grid, row["slices"], strict=True)):
                for axes, contrast, values in zip(axes_row, CONTRASTS, slices, strict=True):
                    show(axes, values, vmin=values.min(), vmax=np.percentile(values, BRIGHTEST))
                    if number == 0:
                        axes.set_title(TITLES[contrast])


def brightest_part(volume: np.ndarray, share: float = 0.02) -> tuple[int, int, int]:
    """Voxel in the middle of the brightest part of a volume (x, y, z), where a tumor often is.

    Args:
        volume: values, the background the smallest.
        share: of the voxels that are the brightest.
    """
    bright = np.argwhere(volume >= np.quantile(volume, 1 - share))
    return tuple(int(value) for value in np.median(bright, axis=0))
