"""A table with one row for each epoch of a training."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import from_engine

from custom_apps.common.checkpoint_files import set_aside
from custom_apps.common.distributed import is_main_process
from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import partial_file

FIRST_COLUMNS = ("epoch", "train_loss", "lr", "seconds")


class EpochLog:
    """Writes ``metrics.csv``: epoch, mean training loss, learning rate, seconds, and the validator's metrics.

    Attach it to the trainer, after the handler that validates. A resumed run goes on in the same file; rows of epochs
    that are trained again are replaced. A file of an earlier run is kept under another name. Metrics get the prefix
    ``val_`` unless they have it; where there was no validation, and for values that are not finite, cells are empty.

    Args:
        path: file to write, e.g. ``eval/metrics.csv``.
        validator: engine whose metrics are columns.
        output_transform: what takes the loss out of the trainer's output. The log adds nothing up over processes: the
            loss should already be the mean of all, and the main process writes.
        further: keys of the trainer's output that get columns ``train_<key>`` of their own, the mean over those
            iterations that have them: parts of the loss, for example.
    """

    def __init__(
        self,
        path: str | Path,
        validator: Engine | None = None,
        output_transform: Callable[[Any], Any] = from_engine(["loss"], first=True),  # noqa: B008
        further: Sequence[str] = (),
    ):
        self.path, self.validator, self.output_transform = Path(path), validator, output_transform
        self.further = tuple(further)
        self._losses: list[float] = []
        self._parts: dict[str, list[float]] = {}
        self._rate, self._started = math.nan, 0.0

    def attach(self, engine: Engine) -> None:
        """Registers the handler on a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _begin(self, engine: Engine) -> None:
        self._losses, self._started = [], time.monotonic()
        self._parts = {key: [] for key in self.further}
        optimizer = getattr(engine, "optimizer", None)
        self._rate = optimizer.param_groups[0]["lr"] if optimizer is not None else math.nan

    def _add(self, engine: Engine) -> None:
        self._losses.append(float(self.output_transform(engine.state.output)))
        for key, values in self._parts.items():
            first = engine.state.output[0]
            if key in first:
                values.append(float(first[key]))

    def _write(self, engine: Engine) -> None:
        if not is_main_process():
            return
        epoch = engine.state.epoch
        row = {
            "epoch": epoch,
            "train_loss": _mean(self._losses),
            **{f"train_{key}": _mean(values) for key, values in self._parts.items()},
            "lr": self._rate,
            "seconds": time.monotonic() - self._started,
        }
        if self.validator is not None and self.validator.state.epoch == epoch:
            for name, value in self.validator.state.metrics.items():
                row[name if name.startswith("val_") else f"val_{name}"] = value
        if epoch == 1:
            set_aside(self.path)
        rows = [old for old in read_epoch_log(self.path) if int(old["epoch"]) < epoch] if self.path.exists() else []
        rows.append({name: _cell(value) for name, value in row.items()})
        columns = list(dict.fromkeys([*FIRST_COLUMNS, *(name for each in rows for name in each)]))
        with partial_file(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)


def read_epoch_log(path: str | Path) -> list[dict[str, str]]:
    """Rows of a log, column name to text.

    Raises:
        DataError: when it is not a table with a column of epochs.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if any(not row["epoch"].isdigit() for row in rows):
            raise ValueError("an epoch is not a number")
    except (OSError, KeyError, AttributeError, ValueError, csv.Error) as error:
        raise DataError(path, f"cannot be read ({error!r})", "a log of epochs") from error
    return rows


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _cell(value: Any) -> str:
    """Text of a number with seven digits; empty for what is no finite number."""
    if isinstance(value, int):
        return str(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return ""
    return f"{number:.7g}" if math.isfinite(number) else ""
