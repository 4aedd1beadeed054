"""A table with a row for each predicted case, written as the prediction goes along."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from custom_apps.common.distributed import is_main_process, wait_for_all, world_size
from custom_apps.common.gathering import gather_rows
from custom_apps.common.table import read_csv, write_csv

SAVE_EVERY = 20


class ResultTable(ABC):
    """Handler of an evaluator that keeps a row a case, sorted by ``file_name``; a subclass says what a row is.

    The table is written every few cases, so that a broken run can be continued; rows of earlier runs in it are kept,
    unless told otherwise. In a distributed run rank 0 writes at the end. Batches and outputs have to be lists of cases.

    Args:
        path: the table.
        overwrite: forget what is in the table.
    """

    def __init__(self, path: str | Path, overwrite: bool = False):
        self.path, self.overwrite = Path(path), overwrite
        self.rows: list[dict[str, Any]] = []
        self._earlier: list[dict[str, Any]] = []

    @abstractmethod
    def row(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """The row of a case, with ``file_name``, from its batch item and output together; may write its own files."""

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.STARTED, lambda: self.begin())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def begin(self) -> None:
        """Forgets the cases so far and reads the rows of earlier runs."""
        self.rows = []
        self._earlier = [] if self.overwrite else self.earlier_rows()

    def earlier_rows(self) -> list[dict[str, Any]]:
        """Rows of earlier runs, none where there is no table."""
        return read_csv(self.path) if self.path.is_file() else []

    def add(self, case: Mapping[str, Any]) -> None:
        """Takes one case."""
        self.rows.append(self.row(case))

    def write(self, rows: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Writes the table with earlier rows; by default with the cases so far. Nothing is written without rows."""
        if rows := sorted([*self._earlier, *(self.rows if rows is None else rows)], key=lambda row: row["file_name"]):
            self.write_rows(rows)

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes sorted rows."""
        write_csv(rows, self.path)

    def write_now_and_then(self, number: int) -> None:
        """Writes the table when ``number``, of the case that was just added, is a round one."""
        if number % SAVE_EVERY == 0:
            self.write()

    def _collect(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            # A transform may leave its further results in the output beside the prediction.
            self.add({**item, **output})
        if world_size() == 1:
            self.write_now_and_then(engine.state.iteration)

    def _finish(self, engine: Engine) -> None:
        rows = gather_rows(self.rows)
        if is_main_process() and rows:
            self.write(rows)
            engine.logger.info("%d cases in %s", len(rows), self.path)
        wait_for_all()
