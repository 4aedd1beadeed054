"""Predicted class probabilities of cases, written as a table."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from custom_apps.common.classification_evaluation import probability_of_class_1
from custom_apps.common.distributed import is_main_process, wait_for_all, world_size
from custom_apps.common.gathering import gather_rows
from custom_apps.common.table import write_csv

SAVE_EVERY = 20


class SaveProbabilities:
    """Handler of an evaluator that writes a row a case: name, probability of class 1, class at a threshold.

    The table is written every few cases, so that a broken run can be continued; rows of earlier runs in it are kept,
    unless told otherwise. In a distributed run rank 0 writes at the end.

    Args:
        path: the table.
        class_names: of class 0 and 1.
        threshold: a case is called class 1 from this probability on.
        logit: takes the logit or logits out of ``pred``, for networks with several outputs.
        name_key: key of the batch with the name of the case.
        overwrite: forget what is in the table.
    """

    def __init__(
        self,
        path: str | Path,
        class_names: Sequence[str] = ("0", "1"),
        threshold: float = 0.5,
        logit: Callable[[Any], torch.Tensor] | None = None,
        name_key: str = "file_name",
        overwrite: bool = False,
    ):
        self.path, self.class_names, self.threshold = Path(path), tuple(class_names), threshold
        self.logit, self.name_key, self.overwrite = logit, name_key, overwrite
        self.rows: list[dict[str, Any]] = []
        self._earlier: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.STARTED, lambda: self._begin())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def add(self, item: Mapping[str, Any]) -> None:
        """Takes one case, with its name and ``pred``.

        Raises:
            FloatingPointError: naming the case, for a logit that is not finite.
        """
        logit = item["pred"] if self.logit is None else self.logit(item["pred"])
        if not torch.isfinite(logit).all():
            raise FloatingPointError(f"a prediction for {item[self.name_key]} is not finite; run in float32")
        probability = probability_of_class_1(logit)
        called = self.class_names[int(probability >= self.threshold)]
        self.rows.append({"file_name": str(item[self.name_key]), "probability": probability, "class": called})

    def _begin(self) -> None:
        self.rows, self._earlier = [], []
        if not self.overwrite and self.path.is_file():
            with open(self.path, newline="", encoding="utf-8") as file:
                self._earlier = list(csv.DictReader(file))

    def _collect(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.add({**item, "pred": output["pred"]})
        if world_size() == 1 and engine.state.iteration % SAVE_EVERY == 0:
            self._write(self.rows)

    def _finish(self, engine: Engine) -> None:
        rows = gather_rows(self.rows)
        if is_main_process() and rows:
            self._write(rows)
            engine.logger.info("%d cases in %s", len(rows), self.path)
        wait_for_all()

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        write_csv(sorted([*self._earlier, *rows], key=lambda row: row["file_name"]), self.path)
