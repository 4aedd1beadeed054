"""Figures of a two-class classifier: discrimination, calibration and decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from custom_apps.common.classification_metrics import CALIBRATION_BINS, Counts
from custom_apps.common.figures import PALETTE, figure
from custom_apps.common.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHANCE = {"color": "#999999", "linewidth": 0.9, "linestyle": "--"}
PANEL_INCHES = 3.4


def draw_classification(
    labels: np.ndarray,
    probabilities: np.ndarray,
    estimates: Mapping[str, Estimate],
    path: str | Path,
    class_names: Sequence[str] = ("0", "1"),
    threshold: float = 0.5,
) -> None:
    """Four panels: receiver operating characteristic, precision and sensitivity, calibration, confusion matrix.

    Args:
        labels: 0 or 1 for each case.
        probabilities: of class 1.
        estimates: measures for the captions (``auroc``, ``auprc``, ``calibration_error``).
        path: the figure.
        class_names: of class 0 and 1.
        threshold: of the confusion matrix.

    Where a class is missing, the panels that need both say so.
    """
    labels, probabilities = np.asarray(labels, int), np.asarray(probabilities, np.float64)
    both = 0 < labels.sum() < len(labels)
    with figure(path, 1, 4, PANEL_INCHES, PANEL_INCHES) as (_, grid):
        roc, recall, calibration, confusion = grid[0]
        if both:
            draw_roc(roc, labels, probabilities, estimates["auroc"])
            draw_precision_recall(recall, labels, probabilities, estimates["auprc"])
        else:
            for axes, title in ((roc, "ROC curve"), (recall, "Precision–recall curve")):
                axes.text(0.5, 0.5, "only one class", ha="center", va="center", color="#666666")
                axes.set(xticks=[], yticks=[], title=title)
        draw_calibration(calibration, labels, probabilities, estimates["calibration_error"])
        draw_confusion(confusion, labels, probabilities >= threshold, class_names)
        confusion.set_title(f"Decisions at {threshold:g}")


def draw_roc(axes: Axes, labels: np.ndarray, probabilities: np.ndarray, area: Estimate | None = None) -> None:
    """Receiver operating characteristic on given axes."""
    from sklearn.metrics import roc_curve

    false_positives, true_positives, _ = roc_curve(labels, probabilities)
    axes.plot([0, 1], [0, 1], **CHANCE)
    axes.plot(false_positives, true_positives, color=PALETTE[0])
    _unit_square(axes, "ROC curve", "1 − specificity", "sensitivity")
    _note(axes, "AUROC", area, (0.97, 0.04), "right", "bottom")


def draw_precision_recall(
    axes: Axes, labels: np.ndarray, probabilities: np.ndarray, area: Estimate | None = None
) -> None:
    """Precision over sensitivity on given axes; the dashed line is the share of class 1, which chance reaches."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(labels, probabilities)
    axes.axhline(np.mean(labels), **CHANCE)
    axes.step(recall, precision, where="post", color=PALETTE[0])
    _unit_square(axes, "Precision–recall curve", "sensitivity (recall)", "precision")
    _note(axes, "AUPRC", area, (0.04, 0.04), "left", "bottom")


def draw_calibration(
    axes: Axes,
    labels: np.ndarray,
    probabilities: np.ndarray,
    error: Estimate | None = None,
    bins: int = CALIBRATION_BINS,
) -> None:
    """Share of class 1 over the mean probability of bins of equal width, on given axes; bars count the cases.

    The vertical lines are 95 % Wilson intervals of the shares.
    """
    from scipy.stats import binomtest

    place = np.clip((probabilities * bins).astype(int), 0, bins - 1)
    cases = [labels[place == number] for number in np.unique(place)]
    mean = np.array([probabilities[place == number].mean() for number in np.unique(place)])
    share = np.array([each.mean() for each in cases])
    ends = [binomtest(int(c.sum()), len(c)).proportion_ci(0.95, "wilson") for c in cases]
    reach = np.array([[s - e.low, e.high - s] for s, e in zip(share, ends, strict=True)]).clip(0).T
    counts = np.bincount(place, minlength=bins)
    axes.bar((np.arange(bins) + 0.5) / bins, 0.18 * counts / counts.max(), 0.9 / bins, color="#DDDDDD", zorder=1)
    axes.plot([0, 1], [0, 1], **CHANCE)
    axes.errorbar(mean, share, reach, color=PALETTE[0], marker="o", markersize=4, linewidth=1.2, elinewidth=0.9)
    _unit_square(axes, "Calibration", "mean predicted probability", "share of class 1")
    _note(axes, "ECE", error, (0.04, 0.96), "left", "top")


def draw_confusion(
    axes: Axes, labels: np.ndarray, decisions: np.ndarray, class_names: Sequence[str] = ("0", "1")
) -> None:
    """Confusion matrix on given axes: cases, and their share of the row."""
    counts = Counts.of(labels, decisions)
    cells = np.array([[counts.tn, counts.fp], [counts.fn, counts.tp]])
    shares = cells / np.maximum(cells.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(2):
        for column in range(2):
            colour = "white" if shares[row, column] > 0.55 else "#222222"
            text = f"{cells[row, column]:.0f}\n{100 * shares[row, column]:.0f} %"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=11)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set(xticks=[0, 1], yticks=[0, 1], xlabel="predicted", ylabel="reference", title="Decisions")
    axes.set_xticklabels(class_names)
    axes.set_yticklabels(class_names, rotation=90, va="center")
    axes.tick_params(length=0)


def _unit_square(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", title=title, xlabel=x, ylabel=y)


def _note(axes: Axes, name: str, estimate: Estimate | None, place: tuple[float, float], ha: str, va: str) -> None:
    if estimate is None or np.isnan(estimate.value):
        return
    interval = "" if np.isnan(estimate.low) else f"\n{estimate.low:.2f}–{estimate.high:.2f}"
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}
    text = f"{name} {estimate.value:.2f}{interval}"
    axes.text(*place, text, transform=axes.transAxes, ha=ha, va=va, fontsize=8, bbox=box)
