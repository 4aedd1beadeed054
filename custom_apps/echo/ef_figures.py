"""Figures of predicted against reported ejection fraction, a panel for each protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from custom_apps.common.figures import PALETTE, figure
from custom_apps.common.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Pairs = tuple[np.ndarray, np.ndarray]
Estimates = Mapping[str, Mapping[str, Estimate]]

POINT_COLOUR, LINE_COLOUR, BAND_COLOUR = PALETTE[0], "#333333", PALETTE[1]
SHOWN_ERROR_QUANTILE = 0.995
PANEL_INCHES = 3.5


def draw_scatter(panels: Mapping[str, Pairs], estimates: Estimates, path: str | Path) -> None:
    """Predicted over reported ejection fraction with the identity line, MAE and R².

    Args:
        panels: title to reported and predicted values, percent.
        estimates: title to measures (``mae``, ``r2``).
        path: the figure.
    """
    values = np.concatenate([part for pair in panels.values() for part in pair])
    low, high = 5 * np.floor((values.min() - 1) / 5), 5 * np.ceil((values.max() + 1) / 5)
    with figure(path, 1, len(panels), PANEL_INCHES, PANEL_INCHES) as (_, grid):
        for axes, (title, (reference, predicted)) in zip(grid[0], panels.items(), strict=True):
            axes.plot([low, high], [low, high], color=LINE_COLOUR, linewidth=1, linestyle="--", zorder=1)
            axes.scatter(reference, predicted, **_points(len(reference)))
            axes.set(xlim=(low, high), ylim=(low, high), aspect="equal", title=title)
            axes.set(xlabel="reported EF [%]", ylabel="predicted EF [%]")
            axes.yaxis.set_major_locator(axes.xaxis.get_major_locator())
            _note(axes, [f"MAE {_text(estimates[title]['mae'])}", f"R² {_text(estimates[title]['r2'], 2)}"])


def draw_bland_altman(panels: Mapping[str, Pairs], estimates: Estimates, path: str | Path) -> None:
    """Error over the mean of both values, with bias and 95 % limits of agreement and their intervals.

    Args:
        panels: title to reported and predicted values, percent.
        estimates: title to measures (``bias`` and the limits of agreement).
        path: the figure.

    Source: Bland and Altman 1986.
    """
    reach = max(np.abs(predicted - reference).max() for reference, predicted in panels.values())
    ends = [end for each in estimates.values() for e in _agreement(each) for end in (e.low, e.value, e.high)]
    reach = 1.05 * float(np.nanmax(np.abs([reach, *ends])))
    with figure(path, 1, len(panels), PANEL_INCHES + 0.7, PANEL_INCHES) as (_, grid):
        for axes, (title, (reference, predicted)) in zip(grid[0], panels.items(), strict=True):
            axes.scatter((reference + predicted) / 2, predicted - reference, **_points(len(reference)))
            axes.axhline(0, color="#999999", linewidth=0.8, zorder=1)
            for estimate, style in zip(_agreement(estimates[title]), ("-", "--", "--"), strict=True):
                axes.axhline(estimate.value, color=BAND_COLOUR, linestyle=style, linewidth=1.3)
                axes.axhspan(estimate.low, estimate.high, color=BAND_COLOUR, alpha=0.13, linewidth=0)
                axes.annotate(
                    f"{estimate.value:+.1f}".replace("-", "−"),
                    (1.01, estimate.value),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    color=BAND_COLOUR,
                )
            axes.set(ylim=(-reach, reach), title=title)
            axes.set(xlabel="mean of reported and predicted EF [%]", ylabel="predicted − reported EF [points]")


def draw_absolute_errors(panels: Mapping[str, Pairs], path: str | Path) -> None:
    """Share of videos whose error is at most so large, a line for each protocol.

    Args:
        panels: title to reported and predicted values, percent.
        path: the figure.
    """
    errors = {title: np.sort(np.abs(predicted - reference)) for title, (reference, predicted) in panels.items()}
    reach = 1.02 * max(np.quantile(values, SHOWN_ERROR_QUANTILE, method="higher") for values in errors.values())
    with figure(path, 1, 1, 4.2, 3.2) as (_, grid):
        axes = grid[0, 0]
        for colour, (title, values) in zip(PALETTE, errors.items(), strict=False):
            share = 100 * np.arange(1, len(values) + 1) / len(values)
            axes.step([0, *values, reach * 2], [0, *share, 100], where="post", color=colour, label=title)
        axes.set(xlim=(0, reach), ylim=(0, 102), title="Videos within an error")
        axes.set(xlabel="absolute error [points of EF]", ylabel="videos [%]")
        axes.legend(loc="lower right")


def draw_roc(
    reference: np.ndarray,
    predicted: np.ndarray,
    estimates: Mapping[str, Estimate],
    reduced_ef_percent: Sequence[float],
    path: str | Path,
    title: str = "",
) -> None:
    """Curves of telling reduced ejection fractions, for each limit on both sides of which there are videos.

    Args:
        reference: reported values, percent.
        predicted: predicted values, percent.
        estimates: measures (``auroc_below_<limit>``).
        reduced_ef_percent: the limits.
        path: the figure.
        title: of the protocol.
    """
    from sklearn.metrics import roc_curve

    with figure(path, 1, 1, 3.9, 3.7) as (_, grid):
        axes = grid[0, 0]
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle="--")
        for colour, limit in zip(PALETTE, reduced_ef_percent, strict=False):
            reduced = reference < limit
            if reduced.all() or not reduced.any():
                continue
            false_positives, true_positives, _ = roc_curve(reduced, -predicted)
            area = _text(estimates[f"auroc_below_{limit:g}"], 2)
            label = f"EF < {limit:g} % (n = {reduced.sum()}): AUC {area}"
            axes.plot(false_positives, true_positives, color=colour, label=label)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", title=f"Reduced EF{', ' * bool(title)}{title}")
        axes.set(xlabel="1 − specificity", ylabel="sensitivity")
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="lower right", fontsize=7)


def _agreement(estimates: Mapping[str, Estimate]) -> list[Estimate]:
    return [estimates[name] for name in ("bias", "lower_limit_of_agreement", "upper_limit_of_agreement")]


def _points(count: int) -> dict:
    """Style of points that stay readable from ten to ten thousand."""
    size, opacity = (22, 0.75) if count <= 100 else (10, 0.45) if count <= 1500 else (4, 0.3)
    return {"s": size, "alpha": opacity, "color": POINT_COLOUR, "edgecolors": "none", "zorder": 2}


def _note(axes: Axes, lines: Sequence[str]) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}
    axes.text(0.04, 0.97, "\n".join(lines), transform=axes.transAxes, va="top", fontsize=8, bbox=box)


def _text(estimate: Estimate, digits: int = 1) -> str:
    if np.isnan(estimate.value):
        return "undefined"
    if np.isnan(estimate.low):
        return f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} ({estimate.low:.{digits}f}–{estimate.high:.{digits}f})"
