"""Descriptions of data sets inside the authors' checkpoints, made into ones with one name for each id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from custom_apps.seg.data_import import LABEL_MAP
from custom_apps.seg.label_maps import LABEL_MAPS, LabelMap
from custom_apps.seg.left_right import BY_NAME
from custom_apps.seg.toothfairy3 import NAMES

TASKS = ("toothfairy3_task1", "toothfairy3_task2")


def published_description(description: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """A ``dataset.json`` as this bundle reads it.

    U-Mamba2's descriptions of ToothFairy3 give structures outside the label map id 0, and all pulps one id; they
    become those that the import with the label map of that task writes. Others are returned as they are.

    Args:
        description: content of the ``dataset.json`` in a checkpoint.

    Returns:
        The description, and how pairs of left and right labels are found, None for networks whose labels have no sides.
    """
    labels = description.get("labels")
    for name in TASKS:
        if isinstance(labels, Mapping) and _is_made_by(LABEL_MAPS[name], labels):
            mapping = LABEL_MAPS[name]
            return {**description, "labels": mapping.labels, LABEL_MAP: mapping.record()}, BY_NAME
    return dict(description), None


def _is_made_by(mapping: LabelMap, labels: Mapping[str, Any]) -> bool:
    """Whether every structure of ToothFairy3 that is named has the id of the mapping, and every id is there."""
    source_ids = {name: id_ for id_, name in NAMES.items()}
    named = {name: id_ for name, id_ in labels.items() if name in source_ids}
    if not all(mapping.table[source_ids[name]] == id_ for name, id_ in named.items()):
        return False
    return len(named) > 1 and set(map(str, labels.values())) == set(map(str, mapping.labels.values()))
