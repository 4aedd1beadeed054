"""Voxels of each class, sampled once so that training can aim patches at the foreground."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from custom_apps.common.partial_file import partial_file
from custom_apps.seg.labels import LabelManager

Region = int | tuple[int, ...]

LARGEST_SAMPLE = 10_000
SMALLEST_SHARE = 0.01
SEED = 1234


def regions_to_locate(labels: LabelManager) -> list[Region]:
    """Foreground labels or regions; with an ignore label also the tuple of everything that is annotated."""
    regions: list[Region] = list(labels.foreground_regions if labels.has_regions else labels.foreground_labels)
    if labels.ignore_label is not None:
        regions.append((-1, *labels.all_labels))
    return regions


def sample_locations(segmentation: np.ndarray, regions: Iterable[Region]) -> dict[Region, np.ndarray]:
    """Random voxels of each label or region, without replacement (nnU-Net, Isensee et al. 2021).

    Args:
        segmentation: label map (1, z, y, x).
        regions: labels, or tuples of labels taken together.

    Returns:
        For each, int32 rows (0, z, y, x): every voxel up to 10 000, then 10 000 or 1 % of the class, whichever is more.
        Seeded: the same label map gives the same rows.
    """
    random = np.random.RandomState(SEED)
    result = {}
    for region in regions:
        mask = np.isin(segmentation, region) if isinstance(region, tuple) else segmentation == region
        flat = np.flatnonzero(mask)
        if len(flat):
            number = max(min(LARGEST_SAMPLE, len(flat)), int(np.ceil(len(flat) * SMALLEST_SHARE)))
            flat = flat[random.choice(len(flat), number, replace=False)]
        result[region] = np.stack(np.unravel_index(flat, segmentation.shape), axis=1).astype(np.int32)
    return result


def write_locations(locations: Mapping[Region, np.ndarray], path: str | Path) -> None:
    """Writes the rows of each class under its label (``3``) or, for a region, its labels (``region_1_2``)."""
    named = {
        "_".join(map(str, ("region", *key))) if isinstance(key, tuple) else str(key): rows
        for key, rows in locations.items()
    }
    with partial_file(path) as temporary:
        np.savez(temporary, **named)


def read_locations(path: str | Path) -> dict[Region, np.ndarray]:
    """Reads what ``write_locations`` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        return {_region(name): archive[name] for name in archive.files}


def _region(name: str) -> Region:
    parts = name.split("_")
    return tuple(int(part) for part in parts[1:]) if parts[0] == "region" else int(name)
