"""Dictionary transforms that bring the clicks of a case to the network and into its label map."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import MetaKeys

from custom_apps.common.errors import DataError
from custom_apps.seg.case_loading import CASE, IMAGE_PATH, PROPERTIES
from custom_apps.seg.click_simulation import simulate_label_clicks
from custom_apps.seg.click_training import MOST_CLICKS, POINT_LABELS, POINTS
from custom_apps.seg.clicks import (
    Click,
    check_clicks,
    clickable_labels,
    clicks_as_read,
    parse_clicks,
    prepared_points,
    read_clicks,
    shape_as_read,
)
from custom_apps.seg.model_folder import ModelFolder

CLICKS = "clicks"
"""Key of a case's clicks: a file, or its parsed content; behind :class:`PrepareClicksd` JSON text ``[[label, point]]``
in the axes of the image as read."""

SOURCES = ("given", "simulated", "none")

_logger = logging.getLogger(__name__)


class PrepareClicksd(Transform):
    """Reads the clicks of a case and maps them into the frame of its prepared image.

    To follow :class:`~custom_apps.seg.case_loading.PreprocessCased`.

    Args:
        model: the model's plan and labels.
        source: ``given``, the item's ``clicks`` or else the file ``{case}_clicks.json``, if there is one;
            ``simulated``, as in training, from the item's ``label``; ``none``.
        clicks_dir: folder of the files of clicks; by default beside the image.
        most_clicks: largest number of clicks in a structure that the network was trained with; more are logged.
        seed: of simulated clicks, with the name of the case.

    The result holds ``click_points`` float32 (K, 3), voxels of the prepared image, ``click_labels`` int64 (K,), and
    ``clicks`` as JSON text. Clicks outside the non-zero region of the image have no effect and are logged.

    Raises:
        DataError: naming file and click, see :mod:`custom_apps.seg.clicks`; for a network that takes no clicks.
    """

    def __init__(
        self,
        model: ModelFolder,
        source: str = "given",
        clicks_dir: str | Path | None = None,
        most_clicks: int = MOST_CLICKS,
        seed: int = 0,
    ):
        if source not in SOURCES:
            raise ValueError(f"source of clicks must be one of {', '.join(SOURCES)}, got {source!r}")
        if clicks_dir is not None and not Path(clicks_dir).is_dir():
            raise DataError(clicks_dir, "no such folder", "a folder of files {case}_clicks.json")
        self.model, self.source, self.clicks_dir = model, source, clicks_dir
        self.most_clicks, self.seed = most_clicks, seed

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Adds the keys."""
        require_click_network(self.model)
        result, properties = dict(data), json.loads(data[PROPERTIES])
        clicks = self._clicks(result, properties)
        points, labels = prepared_clicks(clicks, properties, self.model, str(result[CASE]))
        result[CLICKS] = json.dumps([[click.label, click.point] for click in clicks])
        return result | {POINTS: points, POINT_LABELS: labels}

    def _clicks(self, item: dict[Hashable, Any], properties: dict[str, Any]) -> list[Click]:
        """Clicks in the axes of the image as read."""
        names = clickable_labels(self.model.labels)
        if self.source == "simulated":
            labels = np.asarray(torch.as_tensor(item["label"]).as_subclass(torch.Tensor))[0]
            random = np.random.RandomState([self.seed, *str(item[CASE]).encode()])
            return simulated_clicks(labels, names.values(), random, (1, self.most_clicks))
        given = None if self.source == "none" else self._given(item)
        if given is None:
            return []
        if isinstance(given, (str, Path)):
            where, clicks = given, read_clicks(given, names)
        else:
            where = item.get(IMAGE_PATH, item[CASE])
            clicks = parse_clicks(given, names, where)
        shape = shape_as_read(properties, self.model.plans.transpose_backward)
        clicks = clicks_as_read(clicks, properties, shape)
        check_clicks(clicks, shape, where, self.most_clicks)
        return clicks

    def _given(self, item: dict[Hashable, Any]) -> Any:
        """File or content of the item's clicks, None without any."""
        if item.get(CLICKS) is not None:
            return item[CLICKS]
        if self.clicks_dir is None and IMAGE_PATH not in item:
            return None
        path = Path(self.clicks_dir or Path(item[IMAGE_PATH]).parent) / f"{item[CASE]}_clicks.json"
        if not path.is_file():
            _logger.info("%s: no clicks, there is no file %s", item[CASE], path)
        return path if path.is_file() else None


def require_click_network(model: ModelFolder) -> None:
    """Checks that a model's network takes clicks.

    Raises:
        DataError: if it does not.
    """
    if "click" not in str(model.configuration.network_arguments.get("bottleneck")):
        raise DataError(model.folder, "its network takes no clicks", "one trained with the overlay interactive.yaml")


def simulated_clicks(labels: np.ndarray, ids, random: np.random.RandomState, counts: tuple[int, int]) -> list[Click]:
    """Clicks in every structure of a label map (z, y, x), see :func:`simulate_label_clicks`."""
    points, clicked = simulate_label_clicks(labels, ids, random, counts)
    return [Click(label, tuple(map(float, p))) for label, p in zip(clicked.tolist(), points.tolist(), strict=True)]


def prepared_clicks(
    clicks: list[Click], properties: Mapping[str, Any], model: ModelFolder, case: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates (K, 3), float32, and labels (K,), int64, as the network takes them, of clicks in axes as read."""
    points, inside = prepared_points(
        np.array([click.point for click in clicks]).reshape(-1, 3), properties, model.plans.transpose_forward
    )
    if not inside.all():
        _logger.warning("%s: %d clicks lie in the zeros around the image and have no effect", case, (~inside).sum())
    labels = np.array([click.label - 1 for click in clicks], np.int64)
    return torch.from_numpy(points[inside]).float(), torch.from_numpy(labels[inside])


class PaintClicksd(MapTransform):
    """Paints a cross of seven voxels about every click in its label, where the label is already in the cross.

    To follow the restoring of the label map, and a component filter if there is one.

    Args:
        keys: key of the label map (1, z, y, x), or (1, x, y, z) when the image came in that order.

    Source: post-processing of U-Mamba2 in ToothFairy3, Task 2. Deviation: at the border the cross is cut off instead
    of continuing at the other side.
    """

    def __init__(self, keys: str = "pred"):
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replaces the label map by the painted one."""
        result = dict(data)
        turned = bool(json.loads(result[PROPERTIES]).get("monai_order"))
        clicks = [Click(label, tuple(point)) for label, point in json.loads(result.get(CLICKS) or "[]")]
        for key in self.key_iterator(result):
            labels = torch.as_tensor(result[key])
            array = labels.as_subclass(torch.Tensor).cpu().numpy().copy()
            volume = array[0].transpose(2, 1, 0) if turned else array[0]
            paint_crosses(volume, clicks)
            painted = torch.from_numpy(array).to(labels.device)
            if isinstance(labels, MetaTensor):
                meta = {name: value for name, value in labels.meta.items() if name != MetaKeys.AFFINE}
                painted = MetaTensor(painted, affine=labels.affine, meta=meta)
            result[key] = painted
        return result


def paint_crosses(labels: np.ndarray, clicks: list[Click]) -> None:
    """Paints the crosses of clicks into a label map (z, y, x) in place, see :class:`PaintClicksd`."""
    steps = np.concatenate([np.zeros((1, 3), int), np.eye(3, dtype=int), -np.eye(3, dtype=int)])
    for click in clicks:
        cross = np.floor(np.asarray(click.point) + 0.5).astype(int) + steps
        cross = tuple(cross[((cross >= 0) & (cross < labels.shape)).all(axis=1)].T)
        if (labels[cross] == click.label).any():
            labels[cross] = click.label
