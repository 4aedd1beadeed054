"""How long each case took, and how much memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from custom_apps.common.distributed import is_main_process, world_size
from custom_apps.common.run_record import peak_memory_mib
from custom_apps.common.table import read_csv, write_csv

COLUMNS = ("case", "seconds", "host_mib", "device_mib")


class CaseTimes:
    """Writes a CSV with the seconds of every case (reading, prediction, writing) and the peak memory so far, in MiB.

    Attach it to an evaluator after the handlers whose time shall count; items need the key ``case``. A batch of several
    cases shares its time equally. In a distributed run rank 0 writes the cases of all ranks.

    Args:
        path: the file; rows of other cases that an earlier run left in it stay.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.rows: list[dict[str, str | float]] = []
        self._started = 0.0

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self.rows.clear())
        engine.add_event_handler(Events.GET_BATCH_STARTED, lambda: self.start())
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: self.stop([i["case"] for i in e.state.batch]))
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.write())

    def start(self) -> None:
        """Starts the clock."""
        self._started = time.perf_counter()

    def stop(self, cases: Sequence[str]) -> None:
        """Stops the clock and notes the cases that took this time together."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = round((time.perf_counter() - self._started) / len(cases), 3)
        peak = peak_memory_mib()
        self.rows += [
            {"case": case, "seconds": seconds, "host_mib": peak["host"], "device_mib": peak.get("device")}
            for case in cases
        ]

    def write(self) -> None:
        """Writes the file; a collective call."""
        parts = [self.rows]
        if world_size() > 1:
            parts = [[] for _ in range(world_size())]
            dist.all_gather_object(parts, self.rows)
        if is_main_process():
            rows = _rows_of(self.path) | {row["case"]: row for part in parts for row in part}
            write_csv([rows[case] for case in sorted(rows)], self.path, COLUMNS)


def _rows_of(path: Path) -> dict[str, dict[str, str]]:
    """Rows of an existing file by case; none of a file that is no such table."""
    if not path.is_file():
        return {}
    return {row["case"]: row for row in read_csv(path) if row.get("case")}
