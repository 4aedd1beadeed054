"""Images with the outlines of nodules: one picture a case, and a sheet from the worst to the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from PIL import Image

from custom_apps.common.distributed import is_main_process
from custom_apps.common.figures import figure
from custom_apps.common.gathering import each_once, gather_rows
from custom_apps.common.partial_file import partial_file
from custom_apps.common.worst_cases import WorstCase, write_worst_cases
from custom_apps.thyroid.image_file import read_image
from custom_apps.thyroid.segmentation_metrics import NODULE, image_scores

TRUTH, PREDICTION = (0, 158, 115), (230, 159, 0)
"""Green and orange that color-blind readers can tell apart."""
COLUMNS = 4


def outline_of(mask: np.ndarray, width: int = 1) -> np.ndarray:
    """Border pixels of a mask (H, W), ``width`` pixels thick, on the inside; also where it meets the image's edge."""
    from scipy.ndimage import binary_erosion

    mask = np.asarray(mask, bool)
    return mask & ~binary_erosion(mask, iterations=width)


def with_outlines(
    image: np.ndarray, prediction: np.ndarray, truth: np.ndarray | None = None, width: int | None = None
) -> np.ndarray:
    """RGB picture of an image with the outline of the prediction (orange) over that of the truth (green).

    Args:
        image: uint8 (H, W).
        prediction: nodule or not (H, W).
        truth: the same, if known.
        width: of the lines in pixels; None for one by the size of the image.

    Returns:
        uint8 (H, W, 3).
    """
    width = max(1, round(max(image.shape) / 256)) if width is None else width
    picture = np.repeat(image[..., None], 3, axis=-1)
    for mask, color in ((truth, TRUTH), (prediction, PREDICTION)):
        if mask is not None:
            picture[outline_of(mask, width)] = color
    return picture


def save_picture(picture: np.ndarray, path: str | Path) -> None:
    """Writes a uint8 picture (H, W) or (H, W, 3), whole or not at all."""
    with partial_file(path) as temporary:
        Image.fromarray(picture).save(temporary)


@dataclass(frozen=True)
class _View:
    case: str
    dice: float
    picture: np.ndarray


class OverlaySheet:
    """Handler of an evaluator that draws some images with both outlines, spread from the worst to the best Dice.

    Args:
        path: the figure.
        records: of the evaluator's images, see `custom_apps.thyroid.records`; the files are read again.
        images: how many to draw.
        worst: number of worst images that get a picture of their own beside the figure, see
            :func:`custom_apps.common.worst_cases.write_worst_cases`.
    """

    def __init__(self, path: str | Path, records: Sequence[Mapping[str, Any]], images: int = 8, worst: int = 3):
        self.path, self.images, self.worst = Path(path), images, worst
        self.paths = {str(record["case"]): record["image"] for record in records}
        self._rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw)

    def _begin(self, _engine: Engine) -> None:
        self._rows = []

    def _collect(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            masks = [torch.as_tensor(values).cpu().numpy() for values in (output["pred"], item["label"])]
            dice = image_scores(*masks)["dice"]
            packed = [np.packbits(mask == NODULE) for mask in masks]
            self._rows.append({"case": str(item["case"]), "dice": dice, "size": masks[0].shape, "masks": packed})

    def _draw(self, _engine: Engine) -> None:
        rows = each_once(gather_rows(self._rows))
        if not rows or not is_main_process():
            return
        ranked = sorted(rows, key=lambda row: (np.nan_to_num(row["dice"], nan=-1.0), row["case"]))
        places = np.linspace(0, len(ranked) - 1, min(self.images, len(ranked))).round().astype(int)
        draw_sheet([self._view(ranked[place]) for place in places], self.path)
        write_worst_cases([self._worst(self._view(row)) for row in ranked[: self.worst]], self.path.parent)

    def _view(self, row: Mapping[str, Any]) -> _View:
        pixels = int(np.prod(row["size"]))
        prediction, truth = (np.unpackbits(m)[:pixels].reshape(row["size"]).astype(bool) for m in row["masks"])
        image = read_image(self.paths[row["case"]])
        return _View(row["case"], row["dice"], with_outlines(image, prediction, truth))

    @staticmethod
    def _worst(view: _View) -> WorstCase:
        caption = "Green: reference, orange: prediction."
        return WorstCase(view.case, dice_text(view.dice), caption, partial(save_picture, view.picture))


def draw_sheet(views: Sequence[_View], path: str | Path) -> None:
    """Draws pictures side by side with their Dice."""
    columns = min(COLUMNS, len(views))
    rows = -(-len(views) // columns)
    with figure(path, rows, columns, 2.6, 2.5) as (drawn, grid):
        for axes in grid.ravel():
            axes.axis("off")
        for view, axes in zip(views, grid.ravel(), strict=False):
            axes.imshow(view.picture)
            axes.set_title(f"{view.case}  {dice_text(view.dice)}", fontsize=8, fontweight="normal")
        drawn.supxlabel("green: reference    orange: prediction    from the worst to the best Dice", fontsize=8)


def dice_text(dice: float) -> str:
    """Dice of an image in words; NaN where there is no nodule in either mask."""
    return "no nodule" if np.isnan(dice) else f"Dice {dice:.3f}"
