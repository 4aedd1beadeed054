"""Curves of a cross-validation: each fold lightly, all cases together strongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from custom_apps.common.classification_figures import CHANCE, draw_roc
from custom_apps.common.figures import PALETTE, figure
from custom_apps.common.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_folds(
    folds: Mapping[int, Sequence[Mapping[str, Any]]],
    path: str | Path,
    estimates: Mapping[str, Mapping[str, Estimate]],
) -> None:
    """Two panels: receiver operating characteristics, and the area under them with intervals.

    Args:
        folds: number of a fold to its cases, with ``label`` and ``probability``.
        path: the figure.
        estimates: group of cases (``all cases``, ``fold 0``, subsets) to measures, of which ``auroc`` is drawn.
    """
    with figure(path, 1, 2, 3.8, 3.6) as (_, grid):
        curves, areas = grid[0]
        _draw_curves(curves, folds)
        _draw_areas(areas, estimates)


def _draw_curves(axes: Axes, folds: Mapping[int, Sequence[Mapping[str, Any]]]) -> None:
    from sklearn.metrics import roc_curve

    everything = [row for rows in folds.values() for row in rows]
    if len({row["label"] for row in everything}) < 2:
        _say_one_class(axes, "ROC curve")
        return
    for rows in folds.values():
        if len({row["label"] for row in rows}) == 2:
            false_positives, true_positives, _ = roc_curve(*_columns(rows))
            axes.plot(false_positives, true_positives, color=PALETTE[5], linewidth=0.9, alpha=0.8)
    draw_roc(axes, *_columns(everything))
    axes.set_title("ROC: each fold, and all cases together")


def _draw_areas(axes: Axes, estimates: Mapping[str, Mapping[str, Estimate]]) -> None:
    shown = {name: each["auroc"] for name, each in estimates.items() if np.isfinite(each["auroc"].value)}
    if not shown:
        _say_one_class(axes, "Area under the curve")
        return
    for place, (name, area) in enumerate(shown.items()):
        colour = PALETTE[5] if name.startswith("fold ") else PALETTE[0]
        low, high = (area.value if np.isnan(end) else end for end in (area.low, area.high))
        axes.plot([low, high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot(area.value, place, "o", color=colour, markersize=5)
        axes.text(1.03, place, f"{area.value:.2f}", va="center", fontsize=8, color="#444444")
    axes.axvline(0.5, **CHANCE)
    axes.set(xlim=(0, 1), ylim=(len(shown) - 0.5, -0.5), xlabel="AUROC", title="Area under the curve")
    axes.set_yticks(range(len(shown)), [f"{name} (n = {area.cases})" for name, area in shown.items()])
    axes.grid(False, axis="y")


def _say_one_class(axes: Axes, title: str) -> None:
    axes.text(0.5, 0.5, "only one class", ha="center", va="center", color="#666666")
    axes.set(xticks=[], yticks=[], title=title)


def _columns(rows: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row["label"] for row in rows]), np.array([row["probability"] for row in rows])
