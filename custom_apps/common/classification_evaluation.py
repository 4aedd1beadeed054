"""Two-class classification of cases: an evaluator's predictions gathered, measured, drawn and written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine

from custom_apps.common.case_metric import CaseMetric
from custom_apps.common.classification_figures import draw_classification
from custom_apps.common.classification_metrics import (
    OPTIMISTIC,
    TITLES,
    auprc,
    auroc,
    classification_estimates,
    classification_values,
    youden_threshold,
)
from custom_apps.common.distributed import is_main_process
from custom_apps.common.gathering import each_once
from custom_apps.common.partial_file import write_json, write_text
from custom_apps.common.statistics import RESAMPLES, SEED, Estimate
from custom_apps.common.table import markdown_table, text_table, write_csv


class ClassificationTable:
    """Labels and probabilities of cases.

    Args:
        rows: of each case ``case``, ``label`` (0 or 1), ``probability`` (of class 1) and perhaps ``group``, such as
            its patient: intervals are then over groups. A case that comes twice counts once.
        threshold: a further threshold to measure at, such as one chosen on validation cases.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], threshold: float | None = None):
        self.rows = each_once([dict(row) for row in rows])
        self.labels = np.array([row["label"] for row in self.rows], int)
        self.probabilities = np.array([row["probability"] for row in self.rows], np.float64)
        self.groups = [row["group"] for row in self.rows] if self.rows and "group" in self.rows[0] else None
        self.youden = youden_threshold(self.labels, self.probabilities)
        given = {} if threshold is None else {f"given threshold {threshold:.4g}": float(threshold)}
        best = {} if math.isnan(self.youden) else {f"Youden threshold {self.youden:.4g}": self.youden}
        self.thresholds = {"threshold 0.5": 0.5} | given | best

    def estimates(
        self, level: float = 0.95, resamples: int = RESAMPLES, seed: int = SEED
    ) -> dict[str, dict[str, Estimate]]:
        """Name of a threshold to measure to value with interval."""
        return {
            name: classification_estimates(
                self.labels, self.probabilities, threshold, level, resamples, seed, self.groups
            )
            for name, threshold in self.thresholds.items()
        }

    def write(
        self,
        folder: str | Path,
        level: float = 0.95,
        resamples: int = RESAMPLES,
        class_names: Sequence[str] = ("0", "1"),
        prefix: str = "",
    ) -> str:
        """Writes ``cases.csv``, ``results.md``, ``results.json`` and ``figures/classification.png``.

        Args:
            folder: made when missing; files of these names are replaced.
            level: coverage of the intervals.
            resamples: bootstrap samples of cases.
            class_names: of class 0 and 1, for the figure.
            prefix: put before the names of the files.

        Returns:
            The results as text for a terminal.
        """
        folder, estimates = Path(folder), self.estimates(level, resamples)
        columns = ["case", *(["group"] if self.groups else []), "label", "probability"]
        write_csv(self.rows, folder / f"{prefix}cases.csv", columns)
        rows = [[title, *(each[measure].brief() for each in estimates.values())] for measure, title in TITLES.items()]
        headers = ["measure", *estimates]
        counts = f"{len(self.rows)} cases, {int(self.labels.sum())} of class 1"
        over = f"{len(set(self.groups))} groups" if self.groups else "cases"
        counts = f"{counts}; {100 * level:g} % bootstrap intervals over {over}."
        write_text(f"{markdown_table(rows, headers)}\n\n{counts} {OPTIMISTIC}\n", folder / f"{prefix}results.md")
        content = {
            "cases": len(self.rows),
            "positive": int(self.labels.sum()),
            "youden_threshold": self.youden,
            "level": level,
            "thresholds": {
                name: {"threshold": self.thresholds[name]}
                | {measure: {"value": e.value, "low": e.low, "high": e.high} for measure, e in each.items()}
                for name, each in estimates.items()
            },
        }
        write_json(content, folder / f"{prefix}results.json")
        figure_path = folder / "figures" / f"{prefix}classification.png"
        draw_classification(self.labels, self.probabilities, estimates["threshold 0.5"], figure_path, class_names)
        return f"{counts}\n{text_table(rows, headers)}"


class ClassificationScores(CaseMetric):
    """Metric of a MONAI evaluator for two classes: area under the curve, and all measures in the report.

    Takes from the batch ``label`` (0 or 1) and ``case``, from the output ``pred``: one logit of class 1, or one logit
    for each of the two classes. Cases of all ranks are gathered, each counts once, so the value is that of a single
    process.

    Args:
        measure: the metric's value, ``auroc`` or ``auprc``; NaN when a class is missing.
        logit: takes the logit or logits out of ``pred``, for networks with several outputs.
        output_dir: where rank 0 writes :meth:`ClassificationTable.write`'s files after an epoch; None writes nothing.
        threshold: see :class:`ClassificationTable`.
        class_names: of class 0 and 1.
        prefix: put before the names of files and of entries in ``engine.state.metrics``.
        level: coverage of the intervals.
        resamples: bootstrap samples of cases.
        group_key: key of the batch with what cases belong to, such as the patient; intervals are then over groups.

    ``engine.state.metrics`` gets every measure at threshold 0.5; the :class:`ClassificationTable` stays in ``table``.
    """

    def __init__(
        self,
        measure: str = "auroc",
        logit: Callable[[Any], torch.Tensor] | None = None,
        output_dir: str | Path | None = None,
        threshold: float | None = None,
        class_names: Sequence[str] = ("0", "1"),
        prefix: str = "",
        level: float = 0.95,
        resamples: int = RESAMPLES,
        group_key: str | None = None,
    ):
        if measure not in ("auroc", "auprc"):
            raise ValueError(f"measure must be 'auroc' or 'auprc', got {measure!r}")
        self.measure, self.logit, self.output_dir = measure, logit, output_dir
        self.threshold, self.class_names, self.prefix = threshold, class_names, prefix
        self.level, self.resamples, self.group_key = level, resamples, group_key
        self.table: ClassificationTable | None = None
        super().__init__()

    def row(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """What is kept of one case: ``case``, ``label`` and ``pred``.

        Raises:
            FloatingPointError: naming the case, for a logit that is not finite.
        """
        logit = case["pred"] if self.logit is None else self.logit(case["pred"])
        if not torch.isfinite(logit).all():
            raise FloatingPointError(f"a prediction for {case['case']} is not finite; run in float32 or bfloat16")
        label = int(torch.as_tensor(case["label"]).reshape(()))
        row = {"case": str(case["case"]), "label": label, "probability": probability_of_class_1(logit)}
        if self.group_key is not None:
            row["group"] = str(case[self.group_key])
        return row

    def compute(self) -> float:
        """The measure over the cases of all ranks; the same on every rank."""
        self.table = ClassificationTable(self.rows_of_all_ranks(), self.threshold)
        measure = auroc if self.measure == "auroc" else auprc
        return float(measure(self.table.labels, self.table.probabilities))

    def completed(self, engine: Engine, name: str) -> None:
        """Puts the measures into ``engine.state.metrics`` and writes the report."""
        super().completed(engine, name)
        values = classification_values(self.table.labels, self.table.probabilities)
        engine.state.metrics |= {self.prefix + measure: value for measure, value in values.items()}
        if self.output_dir is not None and is_main_process():
            text = self.table.write(self.output_dir, self.level, self.resamples, self.class_names, self.prefix)
            engine.logger.info("%s", text)


def probability_of_class_1(logits: torch.Tensor) -> float:
    """Sigmoid of one logit, soft-max of two.

    Raises:
        ValueError: for another number of logits.
    """
    logits = logits.detach().double().flatten()
    if len(logits) not in (1, 2):
        raise ValueError(f"expected one or two logits, got {len(logits)}")
    return float(torch.sigmoid(logits[0] if len(logits) == 1 else logits[1] - logits[0]))
