"""Dictionary transforms from the files of a case to what the network sees."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from custom_apps.common.errors import DataError
from custom_apps.seg.affine import meta_tensor, properties_of
from custom_apps.seg.model_folder import ModelFolder
from custom_apps.seg.preprocessing import preprocess_case
from custom_apps.seg.volume_io import file_ending, geometry_problem, read_images, read_segmentation

CASE, PROPERTIES, IMAGE_PATH = "case", "properties", "image_path"
"""Keys that travel with a case: its name, its geometry as JSON text (loaders leave it alone), its first file."""


class LoadImageCased(MapTransform):
    """Reads the image of a case, and its label map if it has one, as the files are.

    The name begins with ``LoadImage`` because MONAI Deploy leaves out transforms of that name when it hands over images
    itself.

    Args:
        keys: key of the image; its value is a file or the folder of a DICOM series, or a list of them, one a
            channel.
        label_key: key of the label map; skipped when the item lacks it.
        reader: nnU-Net's name of a reader to force.

    The result holds ``image`` (C, z, y, x), float32 with affine; ``label`` (1, z, y, x), int16; ``case``, the name,
    taken from the first file when the item does not give it; ``properties``; ``image_path``.

    Raises:
        DataError: for unusable files, and a label map whose shape or spacing is not the image's.
    """

    def __init__(self, keys: KeysCollection = "image", label_key: str = "label", reader: str | None = None):
        super().__init__(keys)
        self.label_key, self.reader = label_key, reader

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replaces file names by arrays."""
        result = dict(data)
        for key in self.key_iterator(result):
            paths = [result[key]] if isinstance(result[key], (str, Path)) else list(result[key])
            image, properties = read_images(paths, self.reader)
            result[key] = meta_tensor(image, properties, paths[0])
            result[IMAGE_PATH], result[PROPERTIES] = str(paths[0]), json.dumps(properties)
            result.setdefault(CASE, case_name(paths[0]))
            if isinstance(label_path := result.get(self.label_key), (str, Path)):
                label, label_properties = read_segmentation(label_path, self.reader)
                if problem := geometry_problem(label.shape[1:], label_properties, image.shape[1:], properties):
                    raise DataError(label_path, problem[0], f"{problem[1]} as the image")
                result[self.label_key] = meta_tensor(label, properties, label_path)
        return result


class PreprocessCased(MapTransform):
    """Transposes, crops, normalizes and resamples a read image as the model's plan says; label maps stay as they are.

    An image that carries no ``properties``, because something other than :class:`LoadImageCased` read it, is taken in
    MONAI's axis order (C, x, y, z) with the affine of its meta data; the label map restored for it has that order too.

    Args:
        keys: key of the image.
        model: the model's plan and labels.

    The result holds ``image`` (C, z, y, x) as the network takes it, float32, and in ``properties`` what is needed for
    the way back.

    Raises:
        DataError: naming the file, if the number of channels or the intensities do not suit the model.
    """

    def __init__(self, keys: KeysCollection = "image", model: ModelFolder | None = None):
        super().__init__(keys)
        if model is None:
            raise ValueError("PreprocessCased needs a model")
        self.model = model

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replaces the image by what the network takes."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            if PROPERTIES not in result:
                image = _from_monai_order(image, result)
            properties = json.loads(result[PROPERTIES])
            array = np.asarray(torch.as_tensor(image).as_subclass(torch.Tensor), np.float32)
            where = result.get(IMAGE_PATH, result[CASE])
            if len(array) != self.model.in_channels:
                raise DataError(
                    where, f"{len(array)} channels", f"{self.model.in_channels} as the model was trained with"
                )
            try:
                prepared, _, properties = preprocess_case(
                    array, None, properties, self.model.plans, self.model.configuration
                )
            except ValueError as error:
                raise DataError(
                    where, f"cannot be prepared ({error})", "an image like those of the training"
                ) from error
            result[key] = torch.from_numpy(np.ascontiguousarray(prepared, np.float32))
            result[PROPERTIES] = json.dumps(properties)
        return result


def case_name(path: str | Path) -> str:
    """Name of a case from its first image file: without ending and channel number; a series has its folder's name."""
    name = Path(path).name
    if Path(path).is_dir():
        return name
    name = name[: -len(file_ending(path))]
    return name[:-5] if name[-5:-4] == "_" and name[-4:].isdecimal() else name


def _from_monai_order(image: Any, result: dict[Hashable, Any]) -> torch.Tensor:
    """Image (C, z, y, x) of one in MONAI's order; notes its geometry and name in ``result``."""
    affine = getattr(image, "affine", None)
    tensor = torch.as_tensor(image).as_subclass(torch.Tensor)
    tensor = tensor[None] if tensor.dim() == 3 else tensor
    if tensor.dim() != 4:
        raise ValueError(f"expected an image (C, x, y, z) or (x, y, z), got shape {tuple(tensor.shape)}")
    properties = properties_of(np.eye(4) if affine is None else np.asarray(affine)) | {"monai_order": True}
    result[PROPERTIES] = json.dumps(properties)
    path = image.meta.get("filename_or_obj") if isinstance(image, MetaTensor) else None
    result.setdefault(CASE, case_name(path) if path and Path(str(path)).suffix else "image")
    return tensor.permute(0, 3, 2, 1)
