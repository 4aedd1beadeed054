"""Scores of a segmentation evaluator's masks over all ranks, and the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine

from custom_apps.common.case_metric import CaseMetric
from custom_apps.common.distributed import is_main_process
from custom_apps.common.partial_file import write_json, write_text
from custom_apps.common.statistics import RESAMPLES, Estimate
from custom_apps.common.table import markdown_table, text_table, write_csv
from custom_apps.thyroid.image_resize import resize_nearest
from custom_apps.thyroid.restoration import PUBLISHED
from custom_apps.thyroid.segmentation_metrics import (
    KINDS,
    NODULE,
    TITLES,
    SegmentationTable,
    image_row,
    published_image_scores,
)

MEASURES = ("mean_dice", "mean_iou", "nodule_dice", "nodule_iou")


class NoduleScores(CaseMetric):
    """Metric of a MONAI evaluator whose predictions are maps of classes of the original size.

    Takes from the batch ``label`` (H, W) and ``case``, from the output ``pred`` (H, W) and, where it is there,
    ``published_pred``. Images of all ranks are gathered, each counts once, so the value is that of a single process.

    Args:
        measure: the metric's value: ``mean_dice`` (published choice of the best model) or ``mean_iou`` over background
            and nodule, ``nodule_dice`` or ``nodule_iou``; each of the pixels of all images together.
        output_dir: where rank 0 writes ``cases.csv``, ``results.md`` and ``results.json``; None writes nothing.
        level: coverage of the intervals.
        resamples: bootstrap samples of images.

    ``engine.state.metrics`` gets all four; the :class:`~custom_apps.thyroid.segmentation_metrics.SegmentationTable`
    stays in ``table``.
    """

    def __init__(
        self,
        measure: str = "mean_dice",
        output_dir: str | Path | None = None,
        level: float = 0.95,
        resamples: int = RESAMPLES,
    ):
        if measure not in MEASURES:
            raise ValueError(f"measure must be one of {', '.join(MEASURES)}, got {measure!r}")
        self.measure, self.output_dir, self.level, self.resamples = measure, output_dir, level, resamples
        self.table: SegmentationTable | None = None
        super().__init__()

    def iteration_completed(self, engine: Engine) -> None:
        """Keeps the images of an iteration, with all that postprocessing made of them."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.update({**item, **output})

    def row(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Areas and scores of one image."""
        prediction, label = (_array(case[key]) for key in ("pred", "label"))
        published = None
        if PUBLISHED in case:
            small = _array(case[PUBLISHED])
            published = published_image_scores(small == NODULE, resize_nearest(label[None], small.shape)[0] == NODULE)
        return image_row(str(case["case"]), prediction, label, published)

    def compute(self) -> float:
        """The measure over the images of all ranks; the same on every rank."""
        self.table = SegmentationTable(self.rows_of_all_ranks())
        return self.values()[self.measure]

    def values(self) -> dict[str, float]:
        """The four measures."""
        pooled = self.table.pooled()
        means = {f"mean_{name}": float(np.mean(pooled[name])) for name in ("dice", "iou")}
        return means | {f"nodule_{name}": float(pooled[name][NODULE]) for name in ("dice", "iou")}

    def completed(self, engine: Engine, name: str) -> None:
        """Puts the measures into ``engine.state.metrics`` and writes the report."""
        super().completed(engine, name)
        engine.state.metrics |= self.values()
        if self.output_dir is not None and is_main_process():
            text = write_report(self.table, self.output_dir, self.level, self.resamples)
            engine.logger.info("%s", text)


def write_report(table: SegmentationTable, folder: str | Path, level: float = 0.95, resamples: int = RESAMPLES) -> str:
    """Writes ``cases.csv``, ``results.md`` and ``results.json``.

    Args:
        table: scores of images.
        folder: made when missing; files of these names are replaced.
        level: coverage of the intervals.
        resamples: bootstrap samples of images.

    Returns:
        The results as text for a terminal.
    """
    folder, estimates = Path(folder), table.estimates(level, resamples)
    columns = [name for name in table.rows[0] if name != "counts"] if table.rows else ["case"]
    write_csv(table.rows, folder / "cases.csv", columns)
    rows = [
        [TITLES[name], *(each[name].brief() if name in each else "" for each in estimates.values())]
        for name in TITLES
        if any(name in each for each in estimates.values())
    ]
    headers = ["measure", *(KINDS[kind] for kind in estimates)]
    counts = (
        f"{len(table.rows)} images; {100 * level:g} % bootstrap intervals over images. "
        f"Nodule missed altogether: {table.missed}; found where there is none: {table.alarms}."
    )
    note = "Results of different columns cannot be compared with each other."
    write_text(f"{markdown_table(rows, headers)}\n\n{counts} {note}\n", folder / "results.md")
    pooled = table.pooled()
    content = {
        "images": len(table.rows),
        "missed": table.missed,
        "alarms": table.alarms,
        "level": level,
        "background": {name: float(pooled[name][0]) for name in ("iou", "dice", "accuracy", "precision")},
        **{kind: {name: _plain(e) for name, e in each.items()} for kind, each in estimates.items()},
    }
    write_json(content, folder / "results.json")
    return f"{counts}\n{text_table(rows, headers)}"


def _plain(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "images": estimate.cases}


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
