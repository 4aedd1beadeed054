"""Pictures of predictions for new cases: slices with the outlines of the structures, and their sizes beside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from custom_apps.common.figures import figure
from custom_apps.seg.case_views import CaseView, view_of
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.overlay_figures import (
    LIST_WIDTH,
    LISTED_STRUCTURES,
    draw_slice,
    draw_structure_list,
    structure_colors,
)
from custom_apps.seg.protocol import SegmentationProtocol
from custom_apps.seg.volume_io import read_images


class PredictionFigures:
    """Handler of an evaluator that draws the first cases it predicts.

    Attach it to the evaluator; items must be as the case transforms of this room leave them, batch size free. The
    image is read again for the picture.

    Args:
        folder: receives ``{case}.png``, replaced when it exists.
        labels: of the model.
        cases: how many each process draws; 0 draws none.
        pred_key: key of the predicted label map (1, z, y, x).
    """

    def __init__(self, folder: str | Path, labels: LabelManager, cases: int = 6, pred_key: str = "pred"):
        self.folder, self.cases, self.pred_key = Path(folder), cases, pred_key
        self.protocol = SegmentationProtocol(labels)
        self._drawn = 0

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Draws the cases of an iteration."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if self._drawn >= self.cases:
                return
            image, properties = read_images([item["image_path"]])
            labels = output[self.pred_key].cpu().numpy()[0]
            view = view_of(item["case"], image, labels, labels, properties, self.protocol)
            voxel, unit = voxel_size(properties)
            sizes = {s.name: float(np.isin(labels, s.ids).sum() * voxel) for s in self.protocol.structures}
            draw_prediction(view, sizes, unit, self.protocol, self.folder / f"{item['case']}.png")
            self._drawn += 1


def voxel_size(properties: Mapping[str, Any]) -> tuple[float, str]:
    """Size of a voxel and its unit: milliliters and ``ml``, of a flat image 1 and ``pixels``.

    Args:
        properties: as read with the image.
    """
    if len(properties.get("sitk", {}).get("spacing", ())) != 3:
        return 1.0, "pixels"
    return float(np.prod(properties["spacing"])) / 1000, "ml"


def draw_prediction(
    view: CaseView, sizes: dict[str, float], unit: str, protocol: SegmentationProtocol, path: str | Path
) -> None:
    """Draws slices with the predicted structures, and their sizes beside; of many the largest.

    Args:
        view: whose reference is the prediction itself.
        sizes: of each structure.
        unit: of the sizes.
        protocol: which structures there are.
        path: the figure, replaced when it exists.
    """
    colours = structure_colors(len(protocol.structures))
    entries = [(s.name, sizes[s.name], colour) for s, colour in zip(protocol.structures, colours, strict=True)]
    entries.sort(key=lambda entry: -entry[1])
    shown = [entry for entry in entries if entry[1] > 0][:LISTED_STRUCTURES]
    listed = [(name, f"{size:.1f}" if unit == "ml" else f"{size:.0f}", colour) for name, size, colour in shown]
    rest = f"and {hidden} smaller or absent" if (hidden := len(entries) - len(listed)) else ""
    flat = len(view.slices) == 1
    ratios = [*[1.0] * (2 if flat else 3), LIST_WIDTH]
    with figure(path, 1, len(ratios), 2.8, 3.0, ratios) as (_, grid):
        parts = [view.slices[0]] * 2 if flat else view.slices
        for number, (part, axes) in enumerate(zip(parts, grid[0], strict=False)):
            draw_slice(axes, part, protocol, [] if flat and number == 0 else colours)
            axes.set_title("prediction" if flat and number else part.title, fontweight="normal")
        draw_structure_list(grid[0, -1], view.case, ("structure", unit), listed, rest)
