"""Clicks of whole cases: lists of files with clicks, and dictionary transforms from and to them."""

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

from custom_apps.common.errors import DataError
from custom_apps.seg.case_lists import CaseItem, cases_to_predict
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

_logger = logging.getLogger(__name__)


def add_click_files(items: list[CaseItem], clicks_dir: str | Path | None = None, required: bool = False) -> list:
    """Cases with the file of their clicks, ``{case}_clicks.json``, under ``clicks``.

    Args:
        items: as :mod:`custom_apps.seg.case_lists` makes them.
        clicks_dir: folder of these files; by default beside the image.
        required: whether every case must have one; otherwise those without are predicted without clicks.

    Raises:
        DataError: for a missing folder, or a missing file that is required.
    """
    if clicks_dir is not None and not Path(clicks_dir).is_dir():
        raise DataError(clicks_dir, "no such folder", "a folder of files {case}_clicks.json")
    found = []
    for item in items:
        path = Path(clicks_dir or Path(item["image"][0]).parent) / f"{item['case']}_clicks.json"
        if required and not path.is_file():
            raise DataError(path, "is missing", "the clicks of every case")
        found.append(item | ({CLICKS: str(path)} if path.is_file() else {}))
    return found


def cases_to_click(
    *args: Any, clicks_dir: str | Path | None = None, required: bool = False, **kwargs: Any
) -> list[CaseItem]:
    """:func:`~custom_apps.seg.case_lists.cases_to_predict` with :func:`add_click_files`."""
    return add_click_files(cases_to_predict(*args, **kwargs), clicks_dir, required)


class PrepareClicksd(Transform):
    """Reads the clicks of a case and maps them into the frame of its prepared image.

    To follow :class:`~custom_apps.seg.case_loading.PreprocessCased`. Items may lack ``clicks``.

    Args:
        model: the model's plan and labels.
        source: ``given``, the item's ``clicks``; ``simulated``, as in training, from the item's ``label``; ``none``.
        most_clicks: largest number of clicks in a structure that the network was trained with; more are logged.
        seed: of simulated clicks, with the name of the case.

    The result holds ``click_points`` float32 (K, 3), voxels of the prepared image, ``click_labels`` int64 (K,), and
    ``clicks`` as JSON text. Clicks outside the non-zero region of the image have no effect and are logged.

    Raises:
        DataError: naming file and click, see :mod:`custom_apps.seg.clicks`.
    """

    def __init__(self, model: ModelFolder, source: str = "given", most_clicks: int = MOST_CLICKS, seed: int = 0):
        if source not in ("given", "simulated", "none"):
            raise ValueError(f"source of clicks must be given, simulated or none, got {source!r}")
        if model.configuration.spatial_dims != 3:
            raise ValueError("clicks need a 3-D configuration")
        self.model, self.source, self.most_clicks, self.seed = model, source, most_clicks, seed
        self.names = clickable_labels(model.labels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Adds the keys."""
        result, properties = dict(data), json.loads(data[PROPERTIES])
        clicks = self._clicks(result, properties)
        points, labels = prepared_clicks(clicks, properties, self.model, str(result[CASE]))
        result[CLICKS] = json.dumps([[click.label, click.point] for click in clicks])
        return result | {POINTS: points, POINT_LABELS: labels}

    def _clicks(self, item: dict[Hashable, Any], properties: dict[str, Any]) -> list[Click]:
        """Clicks in the axes of the image as read."""
        given = item.get(CLICKS)
        shape = shape_as_read(properties, self.model.plans.transpose_backward)
        if self.source == "simulated":
            labels = np.asarray(torch.as_tensor(item["label"]).as_subclass(torch.Tensor))[0]
            random = np.random.RandomState([self.seed, *str(item[CASE]).encode()])
            return simulated_clicks(labels, self.names.values(), random, (1, self.most_clicks))
        if self.source == "none" or given is None:
            return []
        if isinstance(given, (str, Path)):
            where, clicks = given, read_clicks(given, self.names)
        else:
            where = item.get(IMAGE_PATH, item[CASE])
            clicks = parse_clicks(given, self.names, where)
        clicks = clicks_as_read(clicks, properties, shape)
        check_clicks(clicks, shape, where, self.most_clicks)
        return clicks


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
            keeps = isinstance(labels, MetaTensor)
            result[key] = MetaTensor(painted, affine=labels.affine, meta=labels.meta) if keeps else painted
        return result


def paint_crosses(labels: np.ndarray, clicks: list[Click]) -> None:
    """Paints the crosses of clicks into a label map (z, y, x) in place, see :class:`PaintClicksd`."""
    steps = np.concatenate([np.zeros((1, 3), int), np.eye(3, dtype=int), -np.eye(3, dtype=int)])
    for click in clicks:
        cross = np.floor(np.asarray(click.point) + 0.5).astype(int) + steps
        cross = tuple(cross[((cross >= 0) & (cross < labels.shape)).all(axis=1)].T)
        if (labels[cross] == click.label).any():
            labels[cross] = click.label
