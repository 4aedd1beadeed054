"""Training curves from the epoch log."""

from __future__ import annotations

import math
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from ignite.engine import Engine, Events

from custom_apps.common.distributed import is_main_process
from custom_apps.common.epoch_log import read_epoch_log
from custom_apps.common.errors import DataError
from custom_apps.common.figures import PALETTE, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMED_LINES = 8
LINE_LABEL_LENGTH = 24
AVERAGES = ("_ema", "_average")
ONLINE = "_online"
ABBREVIATIONS = {"mae": "MAE", "rmse": "RMSE", "mse": "MSE", "r2": "R²", "auc": "AUC", "auroc": "AUROC", "dice": "Dice"}
AVERAGE_COLOUR, OTHERS_COLOUR = "#222222", "#B8B8B8"


class TrainingCurves:
    """Handler that draws the epoch log after every so many epochs and at the end; on rank 0.

    Attach it to the trainer, after the :class:`~custom_apps.common.epoch_log.EpochLog`.

    Args:
        path: ``metrics.csv`` of that log.
        folder: where ``training_curves.png`` is written, replaced each time.
        every: epochs between drawings.
    """

    def __init__(self, path: str | Path, folder: str | Path, every: int = 10):
        self.path, self.folder, self.every = Path(path), Path(folder), every

    def attach(self, engine: Engine) -> None:
        """Registers the handler on a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.every) | Events.COMPLETED, self)

    def __call__(self, _engine: Engine) -> None:
        """Draws the figure if there is a log."""
        if is_main_process() and self.path.is_file():
            plot_training_curves(self.path, self.folder / "training_curves.png")


def plot_training_curves(log_path: str | Path, path: str | Path) -> None:
    """Draws an epoch log: loss, a panel per family of validation metrics, learning rate.

    A family is a metric with those whose names continue its name (``val_dice``, ``val_dice_liver``, …); the metric
    itself is drawn strong, the others light.

    Args:
        log_path: CSV with the column ``epoch`` and any others of numbers; empty cells are gaps.
        path: the figure.

    Raises:
        DataError: if the log is unreadable or has no rows.
    """
    columns = _read(log_path)
    epochs = columns.pop("epoch")
    columns = {name: values for name, values in columns.items() if any(map(math.isfinite, values))}
    losses = [name for name in columns if "loss" in name]
    families = _families([name for name in columns if name.startswith("val_") and name not in losses])
    rates = [name for name in ("lr",) if name in columns]
    panels = [losses, *families.values(), rates]
    panels = [panel for panel in panels if panel]
    if not panels:
        raise DataError(log_path, "has no numbers to draw", "columns of a loss, validation metrics or lr")
    per_row = min(3, len(panels))
    with figure(path, math.ceil(len(panels) / per_row), per_row, width=4.2, height=3.0) as (_, grid):
        for axes, panel in zip(grid.flat, panels, strict=False):
            _draw(axes, panel, epochs, columns)
        for axes in grid.flat[len(panels) :]:
            axes.remove()


def _draw(axes: Axes, names: list[str], epochs: list[float], columns: dict[str, list[float]]) -> None:
    """One panel: the first line and averages strong, further ones light and, while they are few, named."""
    from matplotlib.ticker import MaxNLocator

    classes = [name for name in names[1:] if not _is_strong(name)]
    named = len(classes) <= MOST_NAMED_LINES
    coloured = [names[0], *(name for name in names[1:] if not name.endswith(AVERAGES))]
    colours = dict(zip(coloured, cycle(PALETTE), strict=False))
    for name in names:
        points = [(epoch, value) for epoch, value in zip(epochs, columns[name], strict=True) if math.isfinite(value)]
        strong = name == names[0] or _is_strong(name)
        axes.plot(
            *zip(*points, strict=True),
            color=AVERAGE_COLOUR if name.endswith(AVERAGES) else colours[name] if named or strong else OTHERS_COLOUR,
            linewidth=2.0 if strong else 1.1,
            alpha=1.0 if strong else 0.75,
            marker="o" if len(points) < 3 else None,
            markersize=3,
            label=_line_label(name, names, named or strong, classes),
            zorder=3 if strong else 2,
        )
    axes.set_xlabel("epoch")
    margin = 0.5 if len(epochs) == 1 else 0
    axes.set_xlim(min(epochs) - margin, max(epochs) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.set_title("Loss" if "loss" in names[0] and len(names) > 1 else _title(names[0]))
    if len(names) > 1:
        axes.legend(loc="best", ncols=2 if len(axes.get_legend_handles_labels()[1]) > 4 else 1)


def _is_strong(name: str) -> bool:
    return "loss" in name or name.endswith(AVERAGES)


def _line_label(name: str, names: list[str], named: bool, classes: list[str]) -> str | None:
    if not named:
        return "each class" if name == classes[0] else None
    if names[0] + ONLINE in names and "loss" not in name:
        return {names[0]: "averaged weights", names[0] + ONLINE: "current weights"}.get(name, name)
    if "loss" in name or name == names[0]:
        return "mean" if classes and name == names[0] else _lower(_title(name))
    return "moving average" if name.endswith(AVERAGES) else name.removeprefix(names[0] + "_")[:LINE_LABEL_LENGTH]


def _read(log_path: str | Path) -> dict[str, list[float]]:
    rows = read_epoch_log(log_path)
    if not rows:
        raise DataError(log_path, "has no rows", "an epoch log with at least one epoch")
    return {name: [_number(row.get(name)) for row in rows] for name in rows[0]}


def _number(text: str | None) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError:
        return math.nan


def _families(names: list[str]) -> dict[str, list[str]]:
    """Metrics by the shortest one whose name they continue, which comes first."""
    families: dict[str, list[str]] = {}
    for name in sorted(names, key=len):
        base = next((known for known in families if name.startswith(known + "_")), name)
        families.setdefault(base, []).append(name)
    return {base: [base, *sorted(families[base][1:], key=names.index)] for base in sorted(families, key=names.index)}


def _title(name: str) -> str:
    plain = {"lr": "learning rate", "train_loss": "training loss", "val_loss": "validation loss"}.get(name)
    words = [ABBREVIATIONS.get(word, word) for word in name.removeprefix("val_").split("_")]
    if "loss" in words and name.startswith("val_"):
        words = ["validation", *words]
    if words[-1] == ONLINE.removeprefix("_"):
        words = [*words[:-2], f"{words[-2]},", "current weights"]
    plain = plain or " ".join(words)
    return plain[:1].upper() + plain[1:]


def _lower(title: str) -> str:
    """A title within a sentence; abbreviations stay."""
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]
