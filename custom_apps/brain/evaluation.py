"""Cross-validation of a marker as a metric of MONAI's engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine

from custom_apps.brain.fold_table import FoldTable
from custom_apps.common.case_metric import CaseMetric
from custom_apps.common.classification_metrics import auroc, classification_values
from custom_apps.common.distributed import is_main_process
from custom_apps.common.statistics import RESAMPLES


class CrossValidationScores(CaseMetric):
    """Metric of a MONAI evaluator: area under the curve of all out-of-fold predictions, and the whole report.

    Takes from the batch ``case``, ``fold``, ``label`` and what ``subsets`` asks for, from the output ``pred``: the
    logits of both classes. Cases of all ranks are gathered, each counts once.

    Args:
        output_dir: where rank 0 writes :meth:`custom_apps.brain.fold_table.FoldTable.write`'s files after an epoch;
            None writes nothing.
        subsets: see :class:`~custom_apps.brain.fold_table.FoldTable`.
        class_names: of class 0 and 1.
        level: coverage of the intervals.
        resamples: bootstrap samples of cases.

    ``engine.state.metrics`` gets every measure at threshold 0.5, and ``auroc_fold_mean``; the table stays in ``table``.
    """

    def __init__(
        self,
        output_dir: str | Path | None = None,
        subsets: Mapping[str, Mapping[str, Any]] | None = None,
        class_names: Sequence[str] = ("0", "1"),
        level: float = 0.95,
        resamples: int = RESAMPLES,
    ):
        self.output_dir, self.subsets, self.class_names = output_dir, dict(subsets or {}), class_names
        self.level, self.resamples = level, resamples
        self.table: FoldTable | None = None
        super().__init__()

    def row(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """What is kept of a case.

        Raises:
            FloatingPointError: naming the case, for a logit that is not finite.
            ValueError: for another number of logits than two.
        """
        logits = case["pred"].detach().double().flatten().tolist()
        if not torch.isfinite(case["pred"]).all():
            raise FloatingPointError(f"a prediction for {case['case']} is not finite; run in float32 or bfloat16")
        if len(logits) != 2:
            raise ValueError(f"expected the logits of two classes, got {len(logits)}")
        keys = {"fold", "label", *(key for wanted in self.subsets.values() for key in wanted)}
        row = {key: int(case[key]) for key in keys if key in case}
        return {"case": str(case["case"]), "logits": logits, **row}

    def compute(self) -> float:
        """The area over the cases of all ranks; the same on every rank."""
        self.table = FoldTable(self.rows_of_all_ranks(), self.subsets)
        return float(auroc(*self._columns()))

    def completed(self, engine: Engine, name: str) -> None:
        """Puts the measures into ``engine.state.metrics`` and writes the report."""
        super().completed(engine, name)
        engine.state.metrics |= classification_values(*self._columns())
        engine.state.metrics["auroc_fold_mean"] = self.table.published()["mean over folds"]["roc_auc_score"]
        if self.output_dir is not None and is_main_process():
            text = self.table.write(self.output_dir, self.level, self.resamples, self.class_names)
            engine.logger.info("%s", text)

    def _columns(self) -> tuple[list[int], list[float]]:
        return [row["label"] for row in self.table.rows], [row["probability"] for row in self.table.rows]
