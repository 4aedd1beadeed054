"""Dictionary transforms from logits to label maps in the geometry of the image, in memory and on disk."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged
from monai.utils import MetaKeys

from custom_apps.seg.affine import meta_tensor
from custom_apps.seg.case_loading import CASE, IMAGE_PATH, PROPERTIES
from custom_apps.seg.export import restore_probabilities, restore_segmentation
from custom_apps.seg.model_folder import ModelFolder
from custom_apps.seg.volume_io import file_ending, write_probabilities, write_segmentation


class RestoreSegmentationd(MapTransform):
    """Turns logits in the prepared frame into a label map of the image as it was read.

    Args:
        keys: key of the logits (heads, z, y, x).
        model: the model's plan and labels.
        probabilities_key: key under which probabilities (heads, z, y, x) of the image are put; none by default.
        decide_first: the fast way, see :func:`custom_apps.seg.export.restore_segmentation`; gives no probabilities.

    The result is a MetaTensor (1, z, y, x), int16, with the affine of the image, so that MONAI's writers and labelling
    servers place it correctly; (1, x, y, z) when the image came in that order.

    Raises:
        DataError: for NaN or infinite logits, naming the case.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        model: ModelFolder | None = None,
        probabilities_key: str | None = None,
        decide_first: bool = False,
    ):
        super().__init__(keys)
        if model is None:
            raise ValueError("RestoreSegmentationd needs a model")
        if decide_first and probabilities_key is not None:
            raise ValueError("decide_first gives no probabilities, expected one of decide_first and probabilities_key")
        self.model, self.probabilities_key, self.decide_first = model, probabilities_key, decide_first

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replaces logits by the label map."""
        result = dict(data)
        for key in self.key_iterator(result):
            logits = torch.as_tensor(result[key]).as_subclass(torch.Tensor)
            properties, path = json.loads(result[PROPERTIES]), result.get(IMAGE_PATH)
            if self.probabilities_key is None:
                labels = restore_segmentation(logits, properties, self.model, result[CASE], self.decide_first)
            else:
                labels, probabilities = restore_probabilities(logits, properties, self.model, result[CASE])
                result[self.probabilities_key] = _placed(probabilities, properties, path)
            result[key] = _placed(labels[None], properties, path)
        return result


class SaveImageCased(SaveImaged):
    """Writes a restored label map as ``{case}{ending}`` with the geometry of its image.

    It is a :class:`~monai.transforms.SaveImaged` in name and class only, because MONAI Label and MONAI Deploy
    recognise by these the transforms to leave out when they store results themselves.

    Args:
        keys: key of the label map (1, z, y, x).
        output_dir: folder, made when missing.
        file_ending: picks the format; by default that of the image.
        overwrite: whether an existing file may be replaced.
        probabilities_key: key of probabilities to store as ``{case}.npz`` beside it; none by default.

    Files hold uint8, or uint16 when a label is above 254.

    Raises:
        DataError: if a file exists and ``overwrite`` is off.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        output_dir: str | Path = "./eval",
        file_ending: str | None = None,
        overwrite: bool = False,
        probabilities_key: str | None = None,
    ):
        MapTransform.__init__(self, keys)
        self.output_dir, self.file_ending = Path(output_dir), file_ending
        self.overwrite, self.probabilities_key = overwrite, probabilities_key

    def set_options(self, *_: Any, **__: Any) -> None:
        """Not offered: files are written in one way."""
        raise NotImplementedError("SaveImageCased has no writer options")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Writes the files and hands the item on."""
        for key in self.key_iterator(data):
            properties = json.loads(data[PROPERTIES])
            ending = self.file_ending or (file_ending(data[IMAGE_PATH]) if IMAGE_PATH in data else ".nii.gz")
            path = self.output_dir / f"{data[CASE]}{ending}"
            write_segmentation(_read_order(data[key], properties)[0], path, properties, self.overwrite)
            if self.probabilities_key is not None:
                probabilities = _read_order(data[self.probabilities_key], properties)
                write_probabilities(probabilities, path.parent / f"{data[CASE]}.npz", properties, self.overwrite)
        return dict(data)


def _placed(array: np.ndarray, properties: dict[str, Any], path: str | None) -> MetaTensor:
    """Array (C, z, y, x) with its geometry, in the axis order in which the image came."""
    tensor = meta_tensor(array, properties, path)
    if not properties.get("monai_order"):
        return tensor
    meta = {key: value for key, value in tensor.meta.items() if key != MetaKeys.AFFINE}
    meta[MetaKeys.SPATIAL_SHAPE] = meta[MetaKeys.SPATIAL_SHAPE][::-1].copy()
    values = tensor.as_tensor().permute(0, 3, 2, 1).contiguous()
    return MetaTensor(values, affine=tensor.affine[:, [2, 1, 0, 3]], meta=meta)


def _read_order(tensor: torch.Tensor | np.ndarray, properties: dict[str, Any]) -> np.ndarray:
    """Array (C, z, y, x) of one in the axis order in which the image came."""
    array = torch.as_tensor(tensor).as_subclass(torch.Tensor).cpu().numpy()
    return array.transpose(0, 3, 2, 1) if properties.get("monai_order") else array
