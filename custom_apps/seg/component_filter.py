"""Removing connected components that are too small for their class, by thresholds learnt from training labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy.ndimage import find_objects

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import write_json
from custom_apps.seg.case_pool import processes_for, run_cases
from custom_apps.seg.check import total_bytes
from custom_apps.seg.connected_components import check_connectivity, connected_components
from custom_apps.seg.raw_dataset import Case, RawDataset

LabelMapFilter = Callable[[np.ndarray, Sequence[float]], np.ndarray]


def component_volumes_mm3(
    segmentation: np.ndarray, class_id: int, spacing_mm: Sequence[float], connectivity: int = 18
) -> np.ndarray:
    """Volume of every connected component of a label, float64.

    Args:
        segmentation: label map (z, y, x).
        class_id: the label.
        spacing_mm: voxel edge per axis.
        connectivity: 6, 18 or 26.
    """
    components = connected_components(segmentation == class_id, connectivity)
    return np.bincount(components.ravel())[1:] * float(np.prod(spacing_mm))


def case_volumes_mm3(
    segmentation: np.ndarray,
    spacing_mm: Sequence[float],
    class_ids: Sequence[int],
    connectivity: int = 18,
    whole_class: bool = False,
) -> dict[int, list[float]]:
    """Volumes of the components, or of the whole, of each label that a label map has.

    Args:
        segmentation: label map (z, y, x).
        spacing_mm: voxel edge per axis.
        class_ids: labels to look for.
        connectivity: 6, 18 or 26.
        whole_class: one volume for each label.
    """
    boxes, volumes = find_objects(segmentation), {}
    for class_id in (int(label) for label in class_ids):
        if class_id <= len(boxes) and boxes[class_id - 1] is not None:
            parts = component_volumes_mm3(segmentation[boxes[class_id - 1]], class_id, spacing_mm, connectivity)
            volumes[class_id] = [float(parts.sum())] if whole_class else parts.tolist()
    return volumes


class ComponentFilter:
    """Removes components that are smaller than almost all of their class in the training labels.

    The volume post-processing of U-Mamba2, with volumes in mm³ instead of voxels of one fixed spacing, so that it
    holds for images of any spacing. Removed voxels become background.

    Args:
        thresholds_mm3: smallest volume that stays, for each label; labels without one are not touched.
        connectivity: 6, 18 (published) or 26.
        whole_class: compare the whole class instead of its components: all of it stays or goes.
    """

    def __init__(self, thresholds_mm3: Mapping[int, float], connectivity: int = 18, whole_class: bool = False):
        check_connectivity(connectivity)
        self.thresholds_mm3 = {int(class_id): float(value) for class_id, value in thresholds_mm3.items()}
        self.connectivity, self.whole_class = connectivity, whole_class

    @classmethod
    def fit(
        cls,
        cases: Iterable[tuple[np.ndarray, Sequence[float]]],
        class_ids: Sequence[int],
        percentile: float = 0.5,
        connectivity: int = 18,
        whole_class: bool = False,
    ) -> ComponentFilter:
        """Learns the thresholds from reference label maps.

        Args:
            cases: label map (z, y, x) and spacing in mm of each.
            class_ids: labels to learn a threshold for; one that never occurs gets none.
            percentile: of the volumes of a class, 0..100; 0.5 is published.
            connectivity: 6, 18 or 26.
            whole_class: learn the volumes of whole classes.
        """
        found = [case_volumes_mm3(*case, class_ids, connectivity, whole_class) for case in cases]
        return cls.of_volumes(found, percentile, connectivity, whole_class)

    @classmethod
    def of_volumes(
        cls,
        volumes: Iterable[Mapping[int, Sequence[float]]],
        percentile: float = 0.5,
        connectivity: int = 18,
        whole_class: bool = False,
    ) -> ComponentFilter:
        """The filter of the volumes that :func:`case_volumes_mm3` found in each case."""
        pooled: dict[int, list[float]] = {}
        for case in volumes:
            for class_id, found in case.items():
                pooled.setdefault(class_id, []).extend(found)
        thresholds = {class_id: float(np.percentile(found, percentile)) for class_id, found in pooled.items()}
        return cls(thresholds, connectivity, whole_class)

    @classmethod
    def from_voxels(
        cls, thresholds: Mapping[int, float], spacing_mm: Sequence[float], **options: Any
    ) -> ComponentFilter:
        """A filter from thresholds in voxels of a known spacing, as published tables give them.

        Args:
            thresholds: smallest number of voxels for each label.
            spacing_mm: edge of these voxels per axis, 0.3 mm in ToothFairy3.
            options: further constructor arguments.
        """
        voxel_mm3 = float(np.prod(spacing_mm))
        return cls({class_id: voxels * voxel_mm3 for class_id, voxels in thresholds.items()}, **options)

    @classmethod
    def read(cls, path: str | Path) -> ComponentFilter:
        """A filter stored by :meth:`write`.

        Raises:
            DataError: if the file is missing or broken.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(content["thresholds_mm3"], content["connectivity"], content["whole_class"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(path, f"is no component filter ({error!r})", "a file that fitting wrote") from error

    def write(self, path: str | Path) -> None:
        """Stores the filter as JSON."""
        content = {
            "thresholds_mm3": self.thresholds_mm3,
            "connectivity": self.connectivity,
            "whole_class": self.whole_class,
        }
        write_json(content, path)

    def __call__(self, segmentation: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
        """A copy of a label map (z, y, x) without the small components."""
        result = segmentation.copy()
        voxel_mm3 = float(np.prod(spacing_mm))
        boxes = find_objects(segmentation)
        for class_id, threshold in self.thresholds_mm3.items():
            if class_id > len(boxes) or boxes[class_id - 1] is None:
                continue
            part = result[boxes[class_id - 1]]
            mask = part == class_id
            components = mask.astype(np.int32) if self.whole_class else connected_components(mask, self.connectivity)
            small = np.bincount(components.ravel()) * voxel_mm3 < threshold
            small[0] = False
            part[small[components]] = 0
        return result


def fit_component_filter(
    dataset_dir: str | Path, path: str | Path, cases: Sequence[str] | None = None, **options: Any
) -> ComponentFilter:
    """Learns a filter from the training labels of a data set in nnU-Net's raw layout, and stores it.

    Args:
        dataset_dir: the data set.
        path: the JSON file to write.
        cases: names of the training cases to learn from, such as those of a fold; all when None.
        options: ``percentile``, ``connectivity``, ``whole_class`` of :meth:`ComponentFilter.fit`.

    Raises:
        DataError: for unusable label maps.
    """
    dataset = RawDataset(dataset_dir)
    chosen = [case for case in dataset.training_cases if cases is None or case.identifier in set(cases)]
    components = {name: options[name] for name in ("connectivity", "whole_class") if name in options}
    arguments = [(dataset, case, components) for case in chosen]
    processes = processes_for(total_bytes(chosen), None)
    fitted = ComponentFilter.of_volumes(run_cases(_volumes_of, arguments, processes, "components"), **options)
    fitted.write(path)
    return fitted


def _volumes_of(dataset: RawDataset, case: Case, components: dict[str, Any]) -> dict[int, list[float]]:
    segmentation, properties = dataset.read_label(case)
    return case_volumes_mm3(segmentation[0], properties["spacing"], dataset.labels.foreground_labels, **components)


class FilterComponentsd(MapTransform):
    """Applies a component filter to a restored label map.

    Args:
        keys: key of the label map, shape (1, z, y, x), or (1, x, y, z) when the image came in that order.
        component_filter: what takes a label map and its spacing and returns a label map, such as a
            :class:`ComponentFilter` or :class:`~custom_apps.seg.largest_component.ComponentRules`; or the path of a
            stored :class:`ComponentFilter`.
    """

    def __init__(self, keys: KeysCollection = "pred", component_filter: LabelMapFilter | str | Path | None = None):
        super().__init__(keys)
        if component_filter is None:
            raise ValueError("FilterComponentsd needs a component_filter")
        is_path = isinstance(component_filter, (str, Path))
        self.component_filter = ComponentFilter.read(component_filter) if is_path else component_filter

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replaces the label map by the filtered one."""
        result = dict(data)
        properties = json.loads(result["properties"])
        spacing_mm = properties["spacing"][::-1] if properties.get("monai_order") else properties["spacing"]
        for key in self.key_iterator(result):
            labels = torch.as_tensor(result[key])
            array = labels.as_subclass(torch.Tensor).cpu().numpy()[0]
            filtered = torch.from_numpy(self.component_filter(array, spacing_mm)[None]).to(labels.device)
            result[key] = MetaTensor(filtered, affine=labels.affine) if isinstance(labels, MetaTensor) else filtered
        return result
