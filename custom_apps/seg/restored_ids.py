"""From the ids of a network back to those that its data set's label map prescribes for results."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapLabelValue, MapTransform

from custom_apps.common.errors import DataError
from custom_apps.seg.data_import import LABEL_MAP
from custom_apps.seg.model_folder import DATASET_FILE, ModelFolder


def output_ids(model: ModelFolder) -> dict[int, int]:
    """Id to write for each label that has another, as the label map in the model's ``dataset.json`` says.

    Raises:
        DataError: if that item is broken.
    """
    record = model.dataset_json.get(LABEL_MAP, {})
    try:
        return {int(label): int(id_) for label, id_ in record.get("output_ids", {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(model.folder / DATASET_FILE, f"'{LABEL_MAP}' is broken ({error})", "as imported") from error


class RestoreLabelIdsd(MapTransform):
    """Gives a restored label map the ids of the challenge or source that the label map names, or leaves it as it is.

    Args:
        keys: key of the label map, integer of any shape.
        model: knows the mapping.
    """

    def __init__(self, keys: KeysCollection = "pred", model: ModelFolder | None = None):
        super().__init__(keys)
        if model is None:
            raise ValueError("RestoreLabelIdsd needs a model")
        ids = output_ids(model)
        self.map = MapLabelValue(list(ids), list(ids.values()), dtype=torch.int16) if ids else None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replaces the ids."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = result[key] if self.map is None else self.map(result[key])
        return result
