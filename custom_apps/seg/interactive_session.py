"""Interactive segmentation of one image: clicks come and go, the label map follows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from custom_apps.common.errors import DataError
from custom_apps.seg.affine import meta_tensor
from custom_apps.seg.case_loading import CASE, PROPERTIES, LoadImageCased, PreprocessCased
from custom_apps.seg.click_cases import paint_crosses, prepared_clicks, require_click_network
from custom_apps.seg.click_inferer import ClickInferer, WindowCache
from custom_apps.seg.click_training import MOST_CLICKS
from custom_apps.seg.clicks import Click, check_clicks, clickable_labels, parse_clicks
from custom_apps.seg.component_filter import LabelMapFilter
from custom_apps.seg.export import restore_segmentation
from custom_apps.seg.model_folder import ModelFolder, ensemble


class InteractiveSession:
    """One image, its clicks, and the label map that the network makes of them; what a viewer talks to.

    The image is prepared once. Every sliding window keeps its logits, so that after a click only the windows around it
    are predicted again; that takes ``4 * heads`` bytes a voxel of each window.

    Args:
        model: folder of a trained model, or its description.
        image: file of the image, or files of its channels; or an array (z, y, x) or (C, z, y, x).
        network: with weights, set to evaluation mode; by default that of the model's folder.
        inferer: by default with the model's patch size, without mirroring.
        spacing_mm: voxel edges (z, y, x), needed with an array.
        device: where the network runs.
        cross: whether each click's cross of seven voxels takes its label, see
            :class:`~custom_apps.seg.click_cases.PaintClicksd`.
        component_filter: applied to every label map, before the crosses.

    Coordinates are voxels [z, y, x] of the array (``SimpleITK.GetArrayFromImage``), which is also the order of label
    maps.

    Raises:
        DataError: for unusable files, a network that takes no clicks, or an array without spacing.
    """

    def __init__(
        self,
        model: ModelFolder | str | Path,
        image: str | Path | Sequence[str | Path] | np.ndarray,
        network: nn.Module | None = None,
        inferer: ClickInferer | None = None,
        spacing_mm: Sequence[float] | None = None,
        device: torch.device | str = "cpu",
        cross: bool = True,
        component_filter: LabelMapFilter | None = None,
    ):
        self.model = model if isinstance(model, ModelFolder) else ModelFolder.read(model)
        require_click_network(self.model)
        self.device, self.cross, self.component_filter = torch.device(device), cross, component_filter
        network = ensemble([self.model.folder]) if network is None else network
        self.network = network.to(self.device).eval()
        self.inferer = ClickInferer(self.model.configuration.patch_size) if inferer is None else inferer
        self._names = clickable_labels(self.model.labels)
        item = _item(image, spacing_mm, self.model.reader)
        self._shape = tuple(item["image"].shape[1:])
        item = PreprocessCased("image", self.model)(item)
        self._image, self._properties, self.case = item["image"], json.loads(item[PROPERTIES]), str(item[CASE])
        self._clicks: list[Click] = []
        self._cache: WindowCache = {}
        self._predicted: tuple[tuple[Click, ...], np.ndarray] | None = None

    @property
    def clicks(self) -> list[Click]:
        """The clicks so far, a copy."""
        return list(self._clicks)

    def add_click(self, structure: str | int, point: Sequence[float]) -> Click:
        """Adds a click.

        Args:
            structure: name of a label, or its id.
            point: voxel [z, y, x] that belongs to it.

        Raises:
            DataError: for an unknown label, a point outside the image, or one that is no three finite numbers.
        """
        by_id = {label: name for name, label in self._names.items()}
        name = structure if isinstance(structure, str) else by_id.get(int(structure), structure)
        content = {"points": [{"name": name, "point": [float(value) for value in point]}]}
        self.set_clicks([*self._clicks, *parse_clicks(content, self._names, self.case)])
        return self._clicks[-1]

    def set_clicks(self, clicks: Sequence[Click]) -> None:
        """Replaces all clicks, for example by those of a file (:func:`custom_apps.seg.clicks.read_clicks`).

        Raises:
            DataError: for a click outside the image; the old ones stay then.
        """
        check_clicks(clicks, self._shape, self.case, MOST_CLICKS)
        self._clicks = list(clicks)

    def undo(self) -> Click | None:
        """Takes the last click back and returns it; None without clicks."""
        return self._clicks.pop() if self._clicks else None

    def reset(self) -> None:
        """Takes all clicks back."""
        self._clicks.clear()

    @torch.no_grad()
    def predict(self) -> np.ndarray:
        """Label map (z, y, x) of the image for the clicks so far, int16.

        Raises:
            DataError: for NaN or infinite logits.
        """
        clicks = tuple(self._clicks)
        if self._predicted is None or self._predicted[0] != clicks:
            given = prepared_clicks(self._clicks, self._properties, self.model, self.case)
            image = self._image[None].to(self.device)
            logits = self.inferer(image, self.network, clicks=given, cache=self._cache)[0]
            labels = restore_segmentation(logits, self._properties, self.model, self.case)
            if self.component_filter is not None:
                labels = self.component_filter(labels, self._properties["spacing"])
            if self.cross:
                paint_crosses(labels, self._clicks)
            self._predicted = clicks, labels
        return self._predicted[1].copy()


def _item(image: Any, spacing_mm: Sequence[float] | None, reader: str | None) -> dict[str, Any]:
    """The image as read, with its properties."""
    if not isinstance(image, np.ndarray):
        paths = [image] if isinstance(image, (str, Path)) else list(image)
        return LoadImageCased("image", reader=reader)({"image": [str(path) for path in paths]})
    if spacing_mm is None or image.ndim not in (3, 4):
        problem = f"shape {image.shape}, spacing_mm {spacing_mm}"
        raise DataError("image", problem, "an array (z, y, x) or (C, z, y, x), and its spacing")
    properties = {"spacing": [float(edge) for edge in spacing_mm]}
    array = image[None] if image.ndim == 3 else image
    return {
        "image": meta_tensor(array.astype(np.float32), properties),
        PROPERTIES: json.dumps(properties),
        CASE: "image",
    }
