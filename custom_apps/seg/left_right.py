"""Which labels a mirrored patient exchanges, and along which axis of a patch a patient is mirrored."""

from __future__ import annotations

import re
from collections.abc import Sequence

from custom_apps.seg.configuration import Configuration
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.plans import Plans

BY_NAME = "by_name"
SIDE = re.compile(r"(?<![a-z])(left|right)(?![a-z])", re.IGNORECASE)


def left_right_pairs(
    labels: LabelManager, pairs: Sequence[Sequence[int | str]] | str | None
) -> tuple[tuple[int, int], ...]:
    """Pairs of labels that change places when a patient is mirrored.

    Args:
        labels: of the data set.
        pairs: pairs of ids or names, for example ``[[1, 2]]``; ``by_name`` finds names that differ only in "left" and
            "right" (``Left_IAC`` and ``Right_IAC``); None for no pairs.

    Returns:
        Pairs of ids, each label in one pair at most.

    Raises:
        ValueError: for an unknown label, a label used twice, the background, no pair found by name, and regions.
    """
    if pairs is None:
        return ()
    if labels.has_regions:
        raise ValueError("left_right_pairs are of labels, expected a data set without regions")
    by_name = dict(zip(labels.names, labels.all_labels, strict=True))
    if pairs == BY_NAME:
        partners = {name: by_name.get(SIDE.sub(_other_side, name)) for name in by_name if SIDE.search(name)}
        found = tuple((by_name[name], other) for name, other in partners.items() if other and by_name[name] < other)
        if not found:
            raise ValueError("left_right_pairs: by_name found no names that differ in left and right")
        return found
    if isinstance(pairs, str):
        raise ValueError(f"left_right_pairs are {pairs!r}, expected pairs of labels, '{BY_NAME}' or null")
    found = tuple(tuple(label_id(labels, label) for label in pair) for pair in pairs)
    used = [label for pair in found for label in pair]
    if any(len(pair) != 2 for pair in found) or len(set(used)) != len(used) or 0 in used:
        raise ValueError(f"left_right_pairs are {list(pairs)}, expected pairs of different labels, each used once")
    return found


def label_id(labels: LabelManager, label: int | str) -> int:
    """Id of a label given by id or name.

    Raises:
        ValueError: if the data set does not declare it.
    """
    by_name = dict(zip(labels.names, labels.all_labels, strict=True)) if not labels.has_regions else {}
    found = by_name.get(label, label)
    if found not in labels.all_labels:
        known = ", ".join(f"{id_} {name}" for name, id_ in by_name.items()) or str(labels.all_labels)
        raise ValueError(f"label {label!r} is not declared, expected one of {known}")
    return int(found)


def left_right_axis(plans: Plans, configuration: Configuration) -> int | None:
    """Axis of a patch from one side of the patient to the other; None where it is not in the patch.

    The last axis of images as they are read (x), wherever the plan's transposition puts it. Images whose first stored
    axis does not run from side to side need a reader that reorients.
    """
    axis = list(plans.transpose_forward).index(2) - (3 - configuration.spatial_dims)
    return axis if axis >= 0 else None


def _other_side(match: re.Match[str]) -> str:
    other = "right" if match[0].lower() == "left" else "left"
    return other.upper() if match[0].isupper() else other.capitalize() if match[0][0].isupper() else other
