"""Maps of what in an image a network's answer depends on, in the size of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from custom_apps.common.saliency_files import SaveSaliency, over_gray
from custom_apps.thyroid.crops import ResizeCenterCropd
from custom_apps.thyroid.image_file import read_image
from custom_apps.thyroid.overlays import save_picture

FITS = ("whole", "square", "center")


class SaveImageSaliency(SaveSaliency):
    """Writes maps (h, w) of images: ``{case}_saliency.png``, the image and the map over it in color.

    ``{case}_saliency_map.png`` is the map alone from 0 to 255, its largest value, in the size of the file.

    Args:
        output_dir, overwrite: see the base class.
        records: items that are predicted, with ``case`` and ``image`` (path).
        fit: how the image became the network's input: ``whole`` (resized), ``square`` (filled up below or on the right,
            then resized) or ``center`` (resized and cropped to the middle, outside of which the map is 0).

    Raises:
        ValueError: for another ``fit``.
    """

    ENDINGS = ("_saliency.png", "_saliency_map.png")

    def __init__(
        self,
        output_dir: str | Path,
        records: Sequence[Mapping[str, Any]],
        fit: str = "whole",
        overwrite: bool = False,
    ):
        super().__init__(output_dir, overwrite)
        if fit not in FITS:
            raise ValueError(f"fit must be one of {', '.join(FITS)}, got {fit!r}")
        self.fit, self.paths = fit, {str(record["case"]): record["image"] for record in records}

    def write(self, item: Mapping[str, Any], values: np.ndarray, paths: Mapping[str, Path]) -> None:
        """Writes the two files of one image."""
        image = read_image(self.paths[str(item["case"])])
        placed = in_image(values, image.shape[:2], self.fit)
        save_picture(over_gray(image, placed), paths["_saliency.png"])
        largest = max(float(placed.max()), np.finfo(np.float32).tiny)
        save_picture(np.rint(255 * (placed / largest).clip(0, 1)).astype(np.uint8), paths["_saliency_map.png"])


def in_image(values: np.ndarray, size: Sequence[int], fit: str = "whole") -> np.ndarray:
    """A map (h, w) on the pixels of the image, (height, width) = ``size``; ``fit`` as in :class:`SaveImageSaliency`."""
    tensor = torch.from_numpy(np.ascontiguousarray(values)).float()[None, None]
    edge = tensor.shape[-1]
    if fit == "square":
        height, width = (max(1, round(edge * side / max(size))) for side in size)
        tensor = tensor[..., :height, :width]
    elif fit == "center":
        shorter = ResizeCenterCropd(size=edge).shorter
        whole = [shorter if side == min(size) else shorter * side // min(size) for side in size]
        top, left = (round((side - edge) / 2) for side in whole)
        tensor = F.pad(tensor, (left, whole[1] - edge - left, top, whole[0] - edge - top))
    return F.interpolate(tensor, tuple(size), mode="bilinear", align_corners=False)[0, 0].numpy()
