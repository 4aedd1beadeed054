"""Overlap of predicted and traced left ventricle at end-diastole and end-systole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine

from custom_apps.common.case_metric import CaseMetric
from custom_apps.common.distributed import is_main_process
from custom_apps.common.gathering import each_once
from custom_apps.common.partial_file import write_json, write_text
from custom_apps.common.statistics import RESAMPLES, Estimate, bootstrap_mean, bootstrap_statistic, ratio
from custom_apps.common.table import markdown_table, text_table, write_csv

PHASES = ("ed", "es")
COLUMNS = ("overall", *PHASES)
TITLES = {"overall": "both frames", "ed": "end-diastole", "es": "end-systole"}
ECHONET_COLUMNS = {"overall": "Overall", "ed": "Large", "es": "Small"}


class DiceTable:
    """Overlap counts of many videos, and the Dice coefficients that follow.

    Args:
        rows: of each video ``case`` and, for ``ed`` and ``es``, the pixels ``[both, predicted only, traced only]``. A
            video that comes twice counts once.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]):
        self.rows = each_once([dict(row) for row in rows])
        counts = {phase: np.array([row[phase] for row in self.rows], np.float64).reshape(-1, 3) for phase in PHASES}
        self.counts = {"overall": sum(counts.values()), **counts}

    def per_video(self, column: str) -> np.ndarray:
        """Dice of each video: of one frame, or of both together (``overall``); NaN where both masks are empty."""
        return _dice(self.counts[column])

    def pooled(self, column: str) -> float:
        """Dice of the pixels of all videos together, as published."""
        return float(_dice(self.counts[column].sum(0)))

    def estimates(self, level: float = 0.95, resamples: int = RESAMPLES) -> dict[str, dict[str, Estimate]]:
        """``per_video`` (mean over videos) and ``pooled``, each for both frames together and apart, with intervals."""
        return {
            "per_video": {c: bootstrap_mean(self.per_video(c), level, resamples) for c in COLUMNS},
            "pooled": {
                c: bootstrap_statistic(
                    _pooled_dice, *self.counts[c].T, level=level, resamples=resamples, vectorized=True
                )
                for c in COLUMNS
            },
        }

    def write(self, folder: str | Path, level: float = 0.95, resamples: int = RESAMPLES) -> str:
        """Writes ``dice.csv`` (EchoNet-Dynamic's columns), ``dice.md`` and ``dice.json``; returns a table as text."""
        folder, estimates = Path(folder), self.estimates(level, resamples)
        dice = {column: self.per_video(column) for column in COLUMNS}
        rows = [
            {"Filename": row["case"], **{ECHONET_COLUMNS[c]: float(dice[c][number]) for c in COLUMNS}}
            for number, row in enumerate(self.rows)
        ]
        write_csv(rows, folder / "dice.csv", ["Filename", *ECHONET_COLUMNS.values()])
        headers = ["Dice of the left ventricle", "mean over videos", "pooled over pixels"]
        cells = [[TITLES[c], estimates["per_video"][c].text(), estimates["pooled"][c].brief()] for c in COLUMNS]
        write_text(f"{markdown_table(cells, headers)}\n", folder / "dice.md")
        content = {kind: {c: _plain(e) for c, e in each.items()} for kind, each in estimates.items()}
        write_json(content, folder / "dice.json")
        return text_table(cells, headers)


class LVDice(CaseMetric):
    """Metric of a MONAI evaluator: Dice of the ventricle in the two annotated frames of each clip or video.

    Takes from the batch ``label`` (2, H, W), masks of end-diastole and end-systole, ``label_frame`` (2,), their places
    in the clip, and ``case``; from the output ``pred``, logits (2, frames, H, W) or a label map (1, frames, H, W).
    Videos of all ranks are gathered, each counts once.

    Args:
        measure: the metric's value: ``pooled`` (as published) or ``per_video``, both of the two frames together.
        output_dir: where rank 0 writes :meth:`DiceTable.write`'s files after an epoch; nothing is written without it.
        prediction: key of the output to measure, such as ``pred_online`` for the current weights beside their average.

    For ``pred``, ``engine.state.metrics`` also gets ``<phase>_dice_<pooled or per_video>``. The table is in ``table``.

    Source: E-ViM3, arXiv 2503.20258, for the pooled value. Deviation: its mean over batches, which depends on the batch
    size, is a mean over videos here.
    """

    def __init__(self, measure: str = "pooled", output_dir: str | Path | None = None, prediction: str = "pred"):
        if measure not in ("pooled", "per_video"):
            raise ValueError(f"measure must be 'pooled' or 'per_video', got {measure!r}")
        self.measure, self.output_dir, self.prediction = measure, output_dir, prediction
        self.table: DiceTable | None = None
        super().__init__()

    def row(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Pixels of one video: ``case``, ``label``, ``label_frame`` and ``pred``."""
        return {"case": str(case["case"]), **overlap_counts(case["pred"], case["label"], case["label_frame"])}

    def compute(self) -> float:
        """The Dice of both frames together, over the videos of all ranks; the same on every rank."""
        self.table = DiceTable(self.rows_of_all_ranks())
        return self._value("overall", self.measure)

    def completed(self, engine: Engine, name: str) -> None:
        """Puts all values into ``engine.state.metrics`` and writes the tables."""
        super().completed(engine, name)
        for column in COLUMNS if self.prediction == "pred" else ():
            for measure in ("pooled", "per_video"):
                engine.state.metrics[f"{column}_dice_{measure}"] = self._value(column, measure)
        if self.output_dir is not None and is_main_process():
            engine.logger.info("%d videos\n%s", len(self.table.rows), self.table.write(self.output_dir))

    def _value(self, column: str, measure: str) -> float:
        if measure == "pooled":
            return self.table.pooled(column)
        values = self.table.per_video(column)
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def overlap_counts(pred: torch.Tensor, label: torch.Tensor, label_frame: torch.Tensor) -> dict[str, list[int]]:
    """Pixels in both, in the prediction only and in the label only, for each phase.

    Args:
        pred: logits (2, frames, H, W) or a label map (1, frames, H, W).
        label: masks (2, H, W) of end-diastole and end-systole.
        label_frame: their frames (2,).
    """
    counts = {}
    for number, phase in enumerate(PHASES):
        frame = pred[:, int(label_frame[number])]
        predicted = (frame[0] > 0 if len(frame) == 1 else frame.argmax(0) > 0).cpu()
        traced = label[number].cpu() > 0
        cells = (predicted & traced, predicted & ~traced, ~predicted & traced)
        counts[phase] = [int(cell.sum()) for cell in cells]
    return counts


def _dice(counts: np.ndarray) -> np.ndarray:
    both, predicted_only, traced_only = np.moveaxis(counts, -1, 0)
    return ratio(2 * both, 2 * both + predicted_only + traced_only)


def _pooled_dice(both: np.ndarray, predicted_only: np.ndarray, traced_only: np.ndarray, axis: int = -1) -> np.ndarray:
    return _dice(np.stack([part.sum(axis) for part in (both, predicted_only, traced_only)], -1))


def _plain(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "cases": estimate.cases}
