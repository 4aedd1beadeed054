"""What the labels of a data set mean: ids, regions, the ignore label, and logits to label map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from custom_apps.common.errors import DataError

if TYPE_CHECKING:
    import torch

IGNORE = "ignore"
BACKGROUND = "background"


class LabelManager:
    """Labels of a data set as nnU-Net's ``dataset.json`` declares them (Isensee et al. 2021, nnU-Net v2 format).

    A label is one id or, in region training, a list of ids (regions may overlap). ``background`` is 0, ids are
    consecutive and an optional ``ignore`` is the highest. Without regions a network has one head per label, background
    included, under a softmax; with regions one head per foreground region under sigmoids.

    Args:
        labels: name to id, or to a list of ids.
        regions_class_order: with regions, the id painted for each region, in painting order.

    Attributes:
        declared: ``labels`` as given.
        all_labels: ids without the ignore label, sorted, 0 first.
        foreground_labels: the same without 0.
        foreground_regions: ids of each declaration but background, as tuples, in the order of declaration.
        has_regions: whether a declaration lists more than one id.
        ignore_label: id of the voxels that take no part in training, or None.
        names: name of each head.

    Raises:
        ValueError: for declarations that break the rules above.
    """

    def __init__(self, labels: Mapping[str, int | Sequence[int]], regions_class_order: Sequence[int] | None = None):
        ids = {name: _ids(name, value) for name, value in labels.items()}
        ignore = ids.pop(IGNORE, None)
        if ignore is not None and len(ignore) != 1:
            raise ValueError(f"label '{IGNORE}' is {list(ignore)}, expected one id")
        if ids.get(BACKGROUND) != (0,):
            raise ValueError(f"label '{BACKGROUND}' is {labels.get(BACKGROUND)!r}, expected 0")
        self.declared = dict(labels)
        self.ignore_label: int | None = ignore[0] if ignore else None
        self.all_labels: list[int] = sorted({i for value in ids.values() for i in value})
        self.foreground_labels: list[int] = [i for i in self.all_labels if i != 0]
        self.has_regions = any(len(value) > 1 for value in ids.values())
        self.foreground_regions: list[tuple[int, ...]] = [value for value in ids.values() if value != (0,)]
        self.regions_class_order = None if regions_class_order is None else [int(i) for i in regions_class_order]
        self._check_consecutive()
        self._check_regions()
        if self.has_regions:
            self.names = [name for name, value in ids.items() if value != (0,)]
        else:
            by_id = {value[0]: name for name, value in ids.items()}
            if len(by_id) != len(ids):
                raise ValueError("two labels share an id, expected one name per id")
            self.names = [by_id[i] for i in self.all_labels]

    def _check_consecutive(self) -> None:
        if not self.foreground_labels:
            raise ValueError("no foreground label, expected at least one")
        every = self.all_labels + ([] if self.ignore_label is None else [self.ignore_label])
        if every != list(range(len(every))):
            raise ValueError(f"label ids are {every}, expected consecutive ids from 0 with '{IGNORE}' the highest")

    def _check_regions(self) -> None:
        if not self.has_regions:
            return
        regions, order = self.foreground_regions, self.regions_class_order
        if order is None or len(order) != len(regions):
            raise ValueError(f"regions_class_order is {order}, expected {len(regions)} ids, one for each region")
        if unknown := set(order) - set(self.foreground_labels):
            raise ValueError(f"regions_class_order names the undeclared ids {sorted(unknown)}")

    @classmethod
    def from_dataset_json(cls, content: Mapping, path: str | Path = "dataset.json") -> LabelManager:
        """Labels of a parsed ``dataset.json``; ``path`` is what an error names.

        Raises:
            DataError: when ``labels`` is missing or breaks the rules.
        """
        if not isinstance(content.get("labels"), Mapping):
            raise DataError(path, "no map 'labels'", 'for example "labels": {"background": 0, "liver": 1}')
        try:
            return cls(content["labels"], content.get("regions_class_order"))
        except ValueError as error:
            problem, _, expected = str(error).partition(", expected ")
            raise DataError(path, problem, expected or None) from error

    @property
    def num_segmentation_heads(self) -> int:
        """Output channels of a network: labels with background, or foreground regions."""
        return len(self.foreground_regions) if self.has_regions else len(self.all_labels)

    def logits_to_probabilities(self, logits: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """Softmax over the heads, or sigmoid of each with regions. Shape (heads, *spatial), float32."""
        import torch

        values = torch.as_tensor(logits).float()
        result = values.sigmoid() if self.has_regions else values.softmax(0)
        return result if isinstance(logits, torch.Tensor) else result.numpy()

    def probabilities_to_segmentation(self, probabilities: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """Label map of probabilities: the largest head, or regions above 0.5 painted in ``regions_class_order``.

        Args:
            probabilities: shape (heads, *spatial).

        Returns:
            Label map, int16, shape spatial, of the kind that was given (array or tensor).
        """
        import torch

        values = torch.as_tensor(probabilities)
        if values.shape[0] != self.num_segmentation_heads:
            raise ValueError(f"{values.shape[0]} heads, expected {self.num_segmentation_heads}")
        if self.has_regions:
            result = torch.zeros(values.shape[1:], dtype=torch.int16, device=values.device)
            for head, label in enumerate(self.regions_class_order):
                result[values[head] > 0.5] = label
        else:
            result = values.argmax(0).to(torch.int16)
        return result if isinstance(probabilities, torch.Tensor) else result.numpy()

    def logits_to_segmentation(self, logits: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """Label map of logits (heads, *spatial), int16; without regions no softmax is needed for it."""
        return self.probabilities_to_segmentation(self.logits_to_probabilities(logits) if self.has_regions else logits)


def _ids(name: str, value: int | Sequence[int]) -> tuple[int, ...]:
    """Ids of one declaration, as a sorted tuple."""
    values = [value] if isinstance(value, int) else value
    is_list_of_ids = isinstance(values, (list, tuple)) and values and all(type(i) is int and i >= 0 for i in values)
    if not is_list_of_ids:
        raise ValueError(f"label '{name}' is {value!r}, expected an id >= 0 or a list of ids")
    return tuple(sorted(values))
