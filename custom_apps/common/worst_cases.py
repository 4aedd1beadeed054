"""The worst cases of an evaluation as pictures, for its report."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


class WorstCases:
    """Handler of an evaluator that keeps what is needed to draw its worst cases, and draws them in the end.

    In a distributed run rank 0 draws, from the cases of all ranks.

    Args:
        folder: receives what `write_worst_cases` writes.
        row: takes an item with its output and gives ``case``, ``badness`` (larger is worse, NaN worst), ``note``,
            ``caption`` and whatever ``draw`` needs, in arrays and plain values.
        draw: takes such a row and a path, and writes the picture.
        cases: how many.
    """

    def __init__(
        self,
        folder: str | Path,
        row: Callable[[Mapping[str, Any]], dict[str, Any]],
        draw: Callable[[Mapping[str, Any], Path], None],
        cases: int = 3,
    ):
        self.folder, self.row, self.draw, self.cases = Path(folder), row, draw, cases
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: self._write())

    def _collect(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.rows = self._worst([*self.rows, self.row({**item, **output})])

    def _write(self) -> None:
        rows = self._worst(each_once(gather_rows(self.rows)))
        if is_main_process():
            cases = [
                WorstCase(row["case"], row["note"], row["caption"], lambda path, row=row: self.draw(row, path))
                for row in rows
            ]
            write_worst_cases(cases, self.folder)

    def _worst(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(rows, key=lambda row: (-_or_worst(row["badness"]), row["case"]))[: self.cases]


def _or_worst(badness: float) -> float:
    return math.inf if math.isnan(badness) else badness
