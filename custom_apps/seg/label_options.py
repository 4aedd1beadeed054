"""Options of a loss that speak of labels by name or id, made into what the loss takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from custom_apps.seg.labels import LabelManager
from custom_apps.seg.left_right import label_id
from custom_apps.seg.losses_soft_targets import toothfairy3_class_weights, toothfairy3_relations

TOOTHFAIRY3 = "toothfairy3"
TOOTHFAIRY3_CLASSES = 47

ClassWeights = Mapping[int | str, float] | Sequence[float] | str
RelatedLabels = Mapping[int | str, Sequence[int | str]] | str


def class_weights_of(labels: LabelManager, weights: ClassWeights | None) -> list[float] | None:
    """Weight of each class in the cross-entropy.

    Args:
        labels: of the data set.
        weights: a weight per class, background first; or the weights of some labels by id or name, all others 1; or
            ``toothfairy3``, the published ones of 47 classes; or None.

    Raises:
        ValueError: if they do not fit the labels.
    """
    if weights is None:
        return None
    if isinstance(weights, str):
        _need_toothfairy3(labels, "class_weights", weights)
        weights = toothfairy3_class_weights()
    if isinstance(weights, Mapping):
        result = [1.0] * len(labels.all_labels)
        for label, weight in weights.items():
            result[label_id(labels, label)] = float(weight)
        return result
    result = [float(weight) for weight in weights]
    if len(result) != len(labels.all_labels):
        raise ValueError(f"{len(result)} class_weights, expected one for each of {len(labels.all_labels)} classes")
    return result


def related_labels_of(labels: LabelManager, related: RelatedLabels | None) -> dict[int, list[int]] | None:
    """Related labels of each label that has some, by id.

    Args:
        labels: of the data set.
        related: label to related labels, ids or names; or ``toothfairy3``, the published relations of 47 classes; or
            None.

    Raises:
        ValueError: if they do not fit the labels.
    """
    if related is None:
        return None
    if isinstance(related, str):
        _need_toothfairy3(labels, "related_labels", related)
        related = toothfairy3_relations()
    return {label_id(labels, k): [label_id(labels, other) for other in others] for k, others in related.items()}


def _need_toothfairy3(labels: LabelManager, option: str, value: str) -> None:
    if value != TOOTHFAIRY3:
        raise ValueError(f"{option} is {value!r}, expected '{TOOTHFAIRY3}' or values for the labels")
    if len(labels.all_labels) != TOOTHFAIRY3_CLASSES or labels.has_regions:
        raise ValueError(
            f"{option}: {TOOTHFAIRY3} is for the {TOOTHFAIRY3_CLASSES} classes of label map toothfairy3_task1, this "
            f"data set has {len(labels.all_labels)}, expected values for its own labels"
        )
