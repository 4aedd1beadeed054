"""Mappings from the ids of a data set's label maps to the consecutive ids that a network is trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.common.errors import DataError
from custom_apps.seg import toothfairy3


@dataclass(frozen=True)
class LabelMap:
    """Which source ids become which label.

    Attributes:
        name: how the mapping is called.
        sources: for each target name the source ids that become it; the first target is label 1.
        background: source ids that become 0, or None if every id without a target does.
        target_ids: label of each target when they are not 1, 2, … in order.
        output_ids: id to write for a predicted label at inference, where it is another.
        corrections: by case, ids that stand in a label map by mistake, and what they mean.

    Raises:
        ValueError: for a source id with two targets, or a target without source.
    """

    name: str
    sources: Mapping[str, Sequence[int]]
    background: frozenset[int] | None = None
    target_ids: tuple[int, ...] = ()
    output_ids: Mapping[int, int] = field(default_factory=dict)
    corrections: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        every = [id_ for ids in self.sources.values() for id_ in ids] + sorted(self.background or ())
        if twice := sorted({id_ for id_ in every if every.count(id_) > 1}):
            raise ValueError(f"label map '{self.name}': source ids {twice} have two targets, expected one")
        if bare := [name for name, ids in self.sources.items() if not ids]:
            raise ValueError(f"label map '{self.name}': '{bare[0]}' has no source id, expected at least one")
        if 0 in every and 0 not in (self.background or ()):
            raise ValueError(f"label map '{self.name}': source id 0 has a target, expected background")

    @property
    def labels(self) -> dict[str, int]:
        """Name to label as ``dataset.json`` holds it, background included."""
        ids = self.target_ids or range(1, len(self.sources) + 1)
        return {"background": 0, **dict(zip(self.sources, ids, strict=True))}

    @property
    def table(self) -> dict[int, int]:
        """Source id to label, background included."""
        labels = self.labels
        targets = {id_: labels[name] for name, ids in self.sources.items() for id_ in ids}
        return {0: 0, **dict.fromkeys(sorted(self.background or ()), 0), **targets}

    def apply(self, segmentation: np.ndarray, path: str | Path, case: str = "") -> np.ndarray:
        """Maps the ids of a label map.

        Args:
            segmentation: non-negative integer labels of any shape.
            path: the file, named in errors.
            case: name of the case, for corrections.

        Returns:
            Labels of the same shape and type.

        Raises:
            DataError: naming the file and the ids that the mapping does not cover.
        """
        present = np.flatnonzero(np.bincount(segmentation.ravel())).tolist()
        known, corrections = self.table, self.corrections.get(case, {})
        meant = {id_: corrections.get(id_, id_) for id_ in present}
        unknown = [id_ for id_, id_meant in meant.items() if id_meant not in known]
        if unknown and self.background is not None:
            expected = f"ids of the label map '{self.name}': {_ranges(sorted(known))}"
            raise DataError(path, f"has the ids {unknown}, which are not mapped", expected)
        lookup = np.zeros(max(present, default=0) + 1, segmentation.dtype)
        for id_, id_meant in meant.items():
            lookup[id_] = known.get(id_meant, 0)
        return lookup[segmentation]

    def record(self) -> dict[str, Any]:
        """What ``dataset.json`` keeps of the mapping, JSON values."""
        return {
            "name": self.name,
            "sources": {name: list(ids) for name, ids in self.sources.items()},
            "output_ids": {str(label): id_ for label, id_ in self.output_ids.items()},
        }


def _ranges(ids: Sequence[int]) -> str:
    """``0-18, 21-28``: sorted ids as text."""
    parts: list[list[int]] = []
    for id_ in ids:
        if parts and id_ == parts[-1][-1] + 1:
            parts[-1].append(id_)
        else:
            parts.append([id_])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _toothfairy3(name: str, sources: dict[str, list[int]], **options: Any) -> LabelMap:
    used = {id_ for ids in sources.values() for id_ in ids}
    background = frozenset(toothfairy3.NAMES) - used
    return LabelMap(name, sources, background, corrections=toothfairy3.CORRECTIONS, **options)


def _named(ids: Sequence[int]) -> dict[str, list[int]]:
    return {toothfairy3.NAMES[id_]: [id_] for id_ in ids}


def _without_sides() -> dict[str, list[int]]:
    """Every structure once: the two sides of a structure, and all pulps, are one label."""
    merged: dict[str, list[int]] = {}
    for id_, name in toothfairy3.NAMES.items():
        plain = "Pulp" if id_ in toothfairy3.PULP_NAMES else " ".join(w for w in name.split() if w not in _SIDES)
        merged.setdefault(plain, []).append(id_)
    return merged


_SIDES = ("Left", "Right")
_OTHERS, _TEETH = list(toothfairy3.OTHERS), list(toothfairy3.TOOTH_NAMES)
_SMALL_CANALS, _PULPS = list(toothfairy3.SMALL_CANALS), list(toothfairy3.PULP_NAMES)
_PULP = {"Pulp": _PULPS}
_TASK1 = _named([*_OTHERS, *_TEETH, *_SMALL_CANALS]) | _PULP
_CLICKED_CANALS = {"Left_IAC": [3], "Right_IAC": [4]}

_LABEL_MAPS = (
    _toothfairy3("toothfairy3_full", _named(list(toothfairy3.NAMES))),
    _toothfairy3("toothfairy3_no_canals", _named([i for i in _OTHERS if i not in (3, 4)] + _TEETH + _PULPS)),
    _toothfairy3(
        "toothfairy3_task1",
        _TASK1,
        output_ids={
            label: toothfairy3.CHALLENGE_IDS[ids[0]]
            for label, ids in enumerate(_TASK1.values(), start=1)
            if toothfairy3.CHALLENGE_IDS[ids[0]] != label
        },
    ),
    _toothfairy3("toothfairy3_no_pulp", _named([*_OTHERS, *_TEETH, *_SMALL_CANALS])),
    _toothfairy3("toothfairy3_no_sides", _without_sides()),
    _toothfairy3("toothfairy3_teeth_pulp", _named(_TEETH) | _PULP),
    _toothfairy3("toothfairy3_jaw_canal", _named([1, 2, 3, 4, *_SMALL_CANALS])),
    _toothfairy3("toothfairy3_task2", _CLICKED_CANALS),
    _toothfairy3("toothfairy3_iac_lower_jaw", _CLICKED_CANALS | _named([1])),
    _toothfairy3("toothfairy3_iac_jaw_incisive", _CLICKED_CANALS | _named([1, 103, 104])),
    _toothfairy3(
        "toothfairy3_challenge", _TASK1, target_ids=tuple(toothfairy3.CHALLENGE_IDS[ids[0]] for ids in _TASK1.values())
    ),
)

LABEL_MAPS: dict[str, LabelMap] = {label_map.name: label_map for label_map in _LABEL_MAPS}
"""Mappings by name.

Of ToothFairy3 (source ids 1-10, teeth by FDI number, 103-105 canals, 111-148 pulps): ``full``; ``no_canals``;
``task1``, all pulps one label; ``no_pulp``; ``no_sides``, left and right one label; ``teeth_pulp``; ``jaw_canal``;
``task2``, the two alveolar canals; ``iac_lower_jaw``; ``iac_jaw_incisive``; ``challenge``, the ids of a submission,
which are not consecutive. Source: U-Mamba2, arXiv 2509.12069.
"""


def open_label_map(name: str | Path) -> LabelMap:
    """A mapping by its name, or from a JSON file.

    The file holds ``{"labels": {"canal": [3, 4], "jaw": 1}, "background": [2, 5]}``: for each label, in order, one or
    more source ids; and the ids that become background, or ``"rest"`` for all that are not named. Optionally
    ``output_ids``, label (a string) to the id that inference writes.

    Raises:
        DataError: for an unknown name, and a file that is broken or contradicts itself.
    """
    if str(name) in LABEL_MAPS:
        return LABEL_MAPS[str(name)]
    path = Path(name)
    if path.suffix != ".json":
        raise DataError(name, "is no label map", f"a .json file or one of {', '.join(LABEL_MAPS)}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sources = {label: [ids] if isinstance(ids, int) else list(ids) for label, ids in content["labels"].items()}
        background = content.get("background", [])
        ids = [id_ for several in sources.values() for id_ in several]
        if not sources or not all(type(id_) is int and id_ >= 0 for id_ in ids):
            raise ValueError("labels are whole numbers from 0")
        return LabelMap(
            path.stem,
            sources,
            None if background == "rest" else frozenset(int(id_) for id_ in background),
            output_ids={int(label): int(id_) for label, id_ in content.get("output_ids", {}).items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        expected = '{"labels": {"name": [source ids]}, "background": [source ids] or "rest"}'
        raise DataError(path, f"is no label map ({error})", expected) from error
