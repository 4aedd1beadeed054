"""The worst cases of an evaluation as pictures, for its report."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from custom_apps.common.distributed import is_main_process
from custom_apps.common.gathering import each_once, gather_rows
from custom_apps.common.partial_file import write_json
from custom_apps.common.report_files import WORST


@dataclass(frozen=True)
class WorstCase:
    """One of the worst cases.

    Attributes:
        case: its name.
        note: its numbers in words.
        caption: below the picture.
        draw: writes the picture to a path.
    """

    case: str
    note: str
    caption: str
    draw: Callable[[Path], None]


def write_worst_cases(cases: Sequence[WorstCase], folder: str | Path) -> None:
    """Writes ``worst_1.png`` … and ``worst.json``, which says whose they are; those of an earlier run are removed.

    Args:
        cases: the worst first.
        folder: made when missing. Names of files do not depend on names of cases, which come from outside.
    """
    folder = Path(folder)
    for path in folder.glob("worst_*.png"):
        path.unlink()
    entries = []
    for number, case in enumerate(cases, 1):
        path = folder / f"worst_{number}.png"
        case.draw(path)
        entries.append({"case": case.case, "note": case.note, "caption": case.caption, "file": path.name})
    write_json({"cases": entries}, folder / WORST)


class WorstCases(ABC):
    """Handler of an evaluator that keeps what is needed to draw its worst cases, and draws them in the end.

    The evaluator's batches and outputs have to be lists of cases, as MONAI's ``decollate`` leaves them. In a
    distributed run rank 0 draws, from the cases of all ranks.

    Args:
        folder: receives what `write_worst_cases` writes.
        cases: how many.
    """

    def __init__(self, folder: str | Path, cases: int = 3):
        self.folder, self.cases = Path(folder), cases
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: self._write())

    @abstractmethod
    def row(self, item: Mapping[str, Any]) -> dict[str, Any] | None:
        """What is kept of a case, small and picklable; None of one that does not count.

        Args:
            item: of the batch, with the output's ``pred``.

        Returns:
            ``case``, ``badness`` (larger is worse, NaN worst), ``note``, ``caption``, and what :meth:`draw` needs.
        """

    @abstractmethod
    def draw(self, row: Mapping[str, Any], path: Path) -> None:
        """Writes the picture of a case."""

    def _collect(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if (row := self.row({**item, "pred": output["pred"]})) is not None:
                self.rows = self._worst([*self.rows, row])

    def _write(self) -> None:
        rows = self._worst(each_once(gather_rows(self.rows)))
        if is_main_process():
            cases = [WorstCase(row["case"], row["note"], row["caption"], partial(self.draw, row)) for row in rows]
            write_worst_cases(cases, self.folder)

    def _worst(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(rows, key=lambda row: (-_or_worst(row["badness"]), row["case"]))[: self.cases]


def _or_worst(badness: float) -> float:
    return math.inf if math.isnan(badness) else badness
