"""The loss of every case: mean with interval, and a table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Metric

from custom_apps.common.distributed import is_main_process
from custom_apps.common.gathering import each_once, gather_rows
from custom_apps.common.partial_file import write_json
from custom_apps.common.statistics import RESAMPLES, bootstrap_mean
from custom_apps.common.table import write_csv


class CaseLosses(Metric):
    """Metric of a MONAI evaluator: mean over cases of the loss in ``engine.state.output``, as of an autoencoder.

    The evaluator needs batches of one case, so that the loss of a batch is that of a case. Cases of all ranks are
    gathered, each counts once.

    Args:
        output_dir: where rank 0 writes ``losses.csv`` and ``losses.json`` after an epoch; None writes nothing.
        level: coverage of the interval.
        resamples: bootstrap samples of cases.
    """

    def __init__(self, output_dir: str | Path | None = None, level: float = 0.95, resamples: int = RESAMPLES):
        self.output_dir, self.level, self.resamples = output_dir, level, resamples
        self.rows: list[dict[str, Any]] = []
        super().__init__()

    def reset(self) -> None:
        """Forgets all cases."""
        self._own: list[dict[str, Any]] = []

    def iteration_completed(self, engine: Engine) -> None:
        """Keeps the loss of an iteration's case.

        Raises:
            ValueError: for a batch of several cases.
        """
        if len(engine.state.batch) != 1:
            raise ValueError(f"losses of single cases need batches of one, got {len(engine.state.batch)}")
        self.update((engine.state.batch[0]["case"], engine.state.output[0]["loss"]))

    def update(self, output: tuple[str, torch.Tensor]) -> None:
        """Keeps one case: its name and its loss."""
        self._own.append({"case": str(output[0]), "loss": float(output[1])})

    def compute(self) -> float:
        """Mean over the cases of all ranks; the same on every rank."""
        self.rows = each_once(gather_rows(self._own))
        return float(np.mean([row["loss"] for row in self.rows])) if self.rows else math.nan

    def completed(self, engine: Engine, name: str) -> None:
        """Puts the mean into ``engine.state.metrics`` and writes the files."""
        super().completed(engine, name)
        if self.output_dir is None or not is_main_process():
            return
        estimate = bootstrap_mean([row["loss"] for row in self.rows], self.level, self.resamples)
        write_csv(self.rows, Path(self.output_dir) / "losses.csv", ["case", "loss"])
        content = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "std": estimate.std}
        write_json(content | {"level": self.level, "cases": len(self.rows)}, Path(self.output_dir) / "losses.json")
        engine.logger.info("%s %s", name, estimate.text(4))
