"""Keeping only the largest connected component, of the whole foreground or of a class, where it helps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from custom_apps.seg.connected_components import check_connectivity, connected_components
from custom_apps.seg.overlap_metrics import OverlapCounts


def keep_largest_component(segmentation: np.ndarray, ids: Sequence[int], connectivity: int = 6) -> np.ndarray:
    """A copy of a label map in which only the largest component of the named labels taken together stays.

    Args:
        segmentation: label map (z, y, x).
        ids: one label for its own largest component, or all foreground labels for that of the foreground.
        connectivity: 6 (nnU-Net's choice), 18 or 26.
    """
    components = connected_components(np.isin(segmentation, ids), connectivity)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    result = segmentation.copy()
    result[(components > 0) & (components != sizes.argmax())] = 0
    return result


class ComponentRules:
    """Which labels, taken together, keep only their largest component; the stored outcome of choosing such rules.

    Args:
        largest: groups of labels, applied in order, for example ``[[1, 2, 3], [2]]``.
        connectivity: 6, 18 or 26.
    """

    def __init__(self, largest: Sequence[Sequence[int]] = (), connectivity: int = 6):
        check_connectivity(connectivity)
        self.largest = [[int(class_id) for class_id in ids] for ids in largest]
        self.connectivity = connectivity

    def __call__(self, segmentation: np.ndarray, spacing_mm: Sequence[float] = ()) -> np.ndarray:
        """The label map (z, y, x) after all rules; the spacing plays no part."""
        for ids in self.largest:
            segmentation = keep_largest_component(segmentation, ids, self.connectivity)
        return segmentation


def choose_component_rules(
    cases: Sequence[tuple[np.ndarray, np.ndarray]], class_ids: Sequence[int], connectivity: int = 6
) -> ComponentRules:
    """Decides on cross-validation cases whether keeping the largest component helps.

    First for the foreground as a whole, then for each class: a rule stays if the mean Dice rises and no class gets
        worse
    (nnU-Net, Isensee et al. 2021).

    Args:
        cases: predicted and reference label map (z, y, x) of each validation case.
        class_ids: foreground labels.
        connectivity: 6, 18 or 26.
    """
    rules = ComponentRules((), connectivity)
    groups = [list(class_ids)] + ([[class_id] for class_id in class_ids] if len(class_ids) > 1 else [])
    predictions = [prediction for prediction, _ in cases]
    references = [reference for _, reference in cases]
    current = _mean_dice(predictions, references, class_ids)
    if np.isnan(current).all():
        return rules
    for ids in groups:
        tried = [keep_largest_component(prediction, ids, connectivity) for prediction in predictions]
        scores = _mean_dice(tried, references, class_ids)
        if np.nanmean(scores) > np.nanmean(current) and not (scores < current).any():
            rules.largest.append(ids)
            predictions, current = tried, scores
    return rules


def _mean_dice(
    predictions: Sequence[np.ndarray], references: Sequence[np.ndarray], class_ids: Sequence[int]
) -> np.ndarray:
    """Mean Dice over cases of each class; NaN for one that occurs nowhere."""
    scores = []
    for class_id in class_ids:
        pairs = zip(predictions, references, strict=True)
        values = [OverlapCounts.of(p == class_id, r == class_id).dice("nnunet") for p, r in pairs]
        present = [value for value in values if not math.isnan(value)]
        scores.append(np.mean(present) if present else math.nan)
    return np.array(scores)
