"""How many instances of a structure were found: F1 and identification accuracy of connected components."""

from __future__ import annotations

import numpy as np

from custom_apps.seg.instance_metrics import InstanceScore, instances_of, match_instances
from custom_apps.seg.overlap_metrics import EmptyConvention, value_of_absence

INSTANCE_IOU = 0.5


def component_score(
    prediction: np.ndarray, reference: np.ndarray, iou_threshold: float = INSTANCE_IOU
) -> InstanceScore:
    """Matches the connected components (diagonal neighbors connect) of two masks one to one.

    Args:
        prediction: boolean mask, 2-D or 3-D.
        reference: boolean mask of the same shape.
        iou_threshold: overlap from which a pair counts as a match.
    """
    filled = np.argwhere(prediction | reference)
    if not len(filled):
        return InstanceScore(0, 0, 0)
    box = tuple(slice(low, high + 1) for low, high in zip(filled.min(0), filled.max(0), strict=True))
    pair = [instances_of(mask[box], True) for mask in (prediction, reference)]
    return match_instances(*pair, iou_threshold)


def instance_f1(score: InstanceScore, convention: EmptyConvention) -> float:
    """F1 of the instances of one structure; without any on both sides what the convention says."""
    if not score.tp + score.fp + score.fn:
        return value_of_absence(convention)
    return score.f1


def identification_accuracy(score: InstanceScore, convention: EmptyConvention) -> float:
    """Share of the reference instances that were identified: matched by an instance of the same label.

    A structure without a reference instance has nothing to identify: NaN under the convention ``nnunet``; under
    ``challenge`` 1, or 0 when something was predicted. Invented instances of other structures do not count; see F1 for
    these.
    """
    if score.tp + score.fn:
        return score.tp / (score.tp + score.fn)
    return 0.0 if score.fp and convention == "challenge" else value_of_absence(convention)
