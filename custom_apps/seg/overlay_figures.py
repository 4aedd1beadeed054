"""Figures of predictions laid over images: reference filled, prediction as a line, Dice beside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch.distributed as dist
from ignite.engine import Engine, Events

from custom_apps.common.distributed import is_main_process, world_size
from custom_apps.common.figures import figure
from custom_apps.common.worst_cases import WorstCase, write_worst_cases
from custom_apps.seg.case_views import CaseView, Slice, view_of
from custom_apps.seg.protocol import SegmentationProtocol
from custom_apps.seg.volume_io import read_images

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REFERENCE_OPACITY = 0.38
LISTED_STRUCTURES = 16
LIST_WIDTH, LIST_TOP = 0.8, 0.79
CAPTION = "filled: reference    line: prediction"


class OverlayFigures:
    """Handler of an evaluator that draws its worst, middle and best case, and its worst cases one by one.

    Attach it to the evaluator; items must be as the case transforms of this room leave them, batch size free. The
    image is read again for the picture. In a distributed run rank 0 draws, from the cases of all ranks.

    Args:
        path: the figure, replaced when it exists.
        protocol: which structures there are.
        cases: number of cases drawn, spread evenly from the worst to the best mean Dice.
        pred_key: key of the predicted label map (1, z, y, x).
        label_key: key of the reference.
        worst: number of worst cases that get a picture of their own beside the figure, see
            :func:`custom_apps.common.worst_cases.write_worst_cases`.
    """

    def __init__(
        self,
        path: str | Path,
        protocol: SegmentationProtocol,
        cases: int = 3,
        pred_key: str = "pred",
        label_key: str = "label",
        worst: int = 3,
    ):
        self.path, self.protocol, self.cases, self.worst = Path(path), protocol, cases, worst
        self.pred_key, self.label_key = pred_key, label_key
        self._views: list[CaseView] = []

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self._views.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: self._draw())

    def _collect(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            image, properties = read_images([item["image_path"]])
            maps = [output[key].cpu().numpy()[0] for key in (self.label_key, self.pred_key)]
            self._views.append(view_of(item["case"], image, *maps, properties, self.protocol))

    def _draw(self) -> None:
        views = self._views
        if world_size() > 1:
            gathered: list[list[CaseView]] = [[] for _ in range(world_size())]
            dist.all_gather_object(gathered, views)
            views = [view for part in gathered for view in part]
        if views and is_main_process():
            draw_overlays(worst_to_best(views, self.cases), self.protocol, self.path)
            ranked = worst_to_best(views, len(views))
            write_worst_cases([self._worst(view) for view in ranked[: self.worst]], self.path.parent)

    def _worst(self, view: CaseView) -> WorstCase:
        dice = "no structure" if np.isnan(view.mean_dice) else f"mean Dice {view.mean_dice:.3f}"
        caption = "Filled: reference; line: prediction."
        return WorstCase(view.case, dice, caption, lambda path: draw_overlays([view], self.protocol, path))


def worst_to_best(views: Sequence[CaseView], count: int) -> list[CaseView]:
    """``count`` different cases spread evenly over the order of mean Dice, the worst first; NaN counts as worst."""
    unique = {view.case: view for view in views}.values()
    ranked = sorted(unique, key=lambda view: (np.nan_to_num(view.mean_dice, nan=-1.0), view.case))
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
    return [ranked[place] for place in places]


def draw_overlays(views: Sequence[CaseView], protocol: SegmentationProtocol, path: str | Path) -> None:
    """Draws cases one below the other: slices, and the structures with their Dice.

    Args:
        views: at least one, all 2-D or all 3-D.
        protocol: which structures there are.
        path: the figure.
    """
    colours = structure_colors(len(protocol.structures))
    flat = len(views[0].slices) == 1
    ratios = [*[1.0] * (2 if flat else 3), LIST_WIDTH]
    with figure(path, len(views), len(ratios), 2.8, 3.0, ratios) as (drawn, grid):
        for view, row in zip(views, grid, strict=True):
            shown = [view.slices[0]] * 2 if flat else view.slices
            for number, (part, axes) in enumerate(zip(shown, row, strict=False)):
                draw_slice(axes, part, protocol, [] if flat and number == 0 else colours)
                axes.set_title("overlay" if flat and number else part.title, fontweight="normal")
            _draw_list(row[-1], view, protocol, colours)
        drawn.supxlabel(CAPTION, fontsize=9)


def draw_slice(axes: Axes, part: Slice, protocol: SegmentationProtocol, colours: Sequence) -> None:
    """Draws a slice with the reference filled and the prediction as a line.

    Args:
        axes: to draw on.
        part: the slice.
        protocol: which structures there are.
        colours: of the structures; with fewer colours the others are left out.
    """
    origin = "lower" if part.upwards else "upper"
    axes.imshow(part.image, cmap="gray", vmin=0, vmax=1, origin=origin, aspect=part.aspect)
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for structure, colour in zip(protocol.structures, colours, strict=False):
        reference, prediction = (np.isin(labels, structure.ids) for labels in (part.reference, part.prediction))
        layer = np.zeros((*reference.shape, 4), np.float32)
        layer[reference] = (*colour, REFERENCE_OPACITY)
        axes.imshow(layer, origin=origin, aspect=part.aspect)
        if prediction.any():
            # A frame of background closes the lines of what touches the border.
            padded = np.pad(prediction, 1).astype(float)
            rows, columns = (np.arange(-1, edge + 1) for edge in prediction.shape)
            axes.contour(columns, rows, padded, levels=[0.5], colors=[colour], linewidths=1.3)
    axes.set_xlim(-0.5, part.image.shape[1] - 0.5)
    limits = (-0.5, part.image.shape[0] - 0.5)
    axes.set_ylim(limits if part.upwards else limits[::-1])


def _draw_list(axes: Axes, view: CaseView, protocol: SegmentationProtocol, colours: Sequence) -> None:
    """Structures with colour and Dice; of many the worst."""
    entries = [(view.dice[s.name], s.name, colour) for s, colour in zip(protocol.structures, colours, strict=True)]
    hidden = len(entries) - LISTED_STRUCTURES
    if hidden > 0:
        entries = sorted(entries, key=lambda entry: np.nan_to_num(entry[0], nan=2.0))[:LISTED_STRUCTURES]
    listed = [(name, "absent" if np.isnan(dice) else f"{dice:.3f}", colour) for dice, name, colour in entries]
    rest = f"and {hidden} with higher Dice or absent" if hidden > 0 else ""
    draw_structure_list(axes, view.case, ("mean Dice", f"{view.mean_dice:.3f}"), listed, rest)


def draw_structure_list(
    axes: Axes,
    heading: str,
    summary: tuple[str, str],
    entries: Sequence[tuple[str, str, tuple[float, float, float]]],
    rest: str = "",
) -> None:
    """Writes structures with their colours on empty axes.

    Args:
        axes: to write on.
        heading: above, such as the case.
        summary: name and value below it.
        entries: name, value and colour of each structure.
        rest: about structures that are not listed.
    """
    axes.axis("off")
    step = min(0.085, 0.8 / max(1, len(entries) + bool(rest)))
    size = 8.5 if step > 0.06 else 7
    axes.text(0, 0.97, heading, weight="bold", va="center", transform=axes.transAxes)
    axes.text(0, 0.89, summary[0], va="center", transform=axes.transAxes)
    axes.text(0.98, 0.89, summary[1], va="center", ha="right", transform=axes.transAxes)
    for number, (name, value, colour) in enumerate(entries):
        height = LIST_TOP - number * step
        axes.plot([0.03], [height], marker="s", markersize=6, color=colour, transform=axes.transAxes, clip_on=False)
        axes.text(0.09, height, name, va="center", size=size, transform=axes.transAxes)
        axes.text(0.98, height, value, va="center", ha="right", size=size, transform=axes.transAxes)
    if rest:
        height = LIST_TOP - len(entries) * step
        axes.text(0.09, height, rest, va="center", size=7, color="#666666", transform=axes.transAxes)


def structure_colors(count: int) -> list[tuple[float, float, float]]:
    """Distinct bright colours (RGB from 0 to 1): the first ones chosen by hand, then round the colour circle."""
    from matplotlib.colors import hsv_to_rgb, to_rgb

    chosen = ["#FF4D4D", "#4DC3FF", "#FFD24D", "#5CE65C", "#FF80D5", "#B38CFF", "#FF9933", "#33E6C8"]
    if count <= len(chosen):
        return [to_rgb(colour) for colour in chosen[:count]]
    return [tuple(hsv_to_rgb((0.618034 * number % 1, 0.65 if number % 2 else 0.85, 1.0))) for number in range(count)]
