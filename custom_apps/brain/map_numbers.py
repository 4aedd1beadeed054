"""Whether a map responds to the tumor, in numbers."""

from __future__ import annotations

import math

import numpy as np

TOP = 0.01


def map_numbers(values: np.ndarray, mask: np.ndarray, within: np.ndarray | None = None) -> dict[str, float]:
    """Compares the values of a map inside and outside of a tumor mask.

    Args:
        values: map (x, y, z); NaN where there is no value, which is left out.
        mask: tumor, above 0, on the same grid.
        within: voxels that count, such as the brain; None for all. Background makes every map look good.

    Returns:
        ``mean_inside``, ``mean_outside`` and their ``ratio`` (NaN where the mean outside is not positive); ``auc``, the
        probability that a voxel of the tumor has a greater value than another one (ties count half); ``top_hit_rate``,
        the part of the voxels with the largest 1 % of the values that is tumor (voxels that tie with the last of them
        included); and ``tumor_share``, what that is by chance. NaN without tumor or without anything else.

    Raises:
        ValueError: for arrays of different shapes.
    """
    if values.shape != mask.shape or (within is not None and within.shape != values.shape):
        raise ValueError(f"map of shape {values.shape} and mask of shape {mask.shape} are not on one grid")
    counted = np.isfinite(values) if within is None else np.isfinite(values) & (within > 0)
    inside, found = mask[counted] > 0, values[counted].astype(np.float64)
    names = ("mean_inside", "mean_outside", "ratio", "auc", "top_hit_rate", "tumor_share")
    if not inside.any() or inside.all():
        return dict.fromkeys(names, math.nan)
    from sklearn.metrics import roc_auc_score

    mean_inside, mean_outside = float(found[inside].mean()), float(found[~inside].mean())
    count = max(1, round(TOP * found.size))
    threshold = np.partition(found, found.size - count)[found.size - count]
    numbers = (
        mean_inside,
        mean_outside,
        mean_inside / mean_outside if mean_outside > 0 else math.nan,
        float(roc_auc_score(inside, found)),
        float(inside[found >= threshold].mean()),
        float(inside.mean()),
    )
    return dict(zip(names, numbers, strict=True))
