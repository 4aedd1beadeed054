"""Folds of cross-validation: stratified by label, with all examinations of a person in the same one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Fold:
    """Records of one fold, each list in the order of the records.

    Attributes:
        train: to learn from.
        validation: to choose a checkpoint by; empty in the published protocol.
        test: held out; over all folds every record once.
    """

    train: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    test: list[dict[str, Any]]


def folds(
    records: Sequence[Mapping[str, Any]],
    k: int = 5,
    seed: int = 42,
    validation: float = 0.15,
    published: bool = False,
) -> list[Fold]:
    """Splits labeled records into ``k`` folds.

    Args:
        records: with ``label`` and ``patient``.
        k: number of folds.
        seed: of the shuffling.
        validation: part of the records outside a fold's test part that is set aside to choose a checkpoint by,
            stratified and by person too; 0 for none.
        published: the published protocol: scikit-learn's ``StratifiedKFold`` over records in the order given, nothing
            set aside. Persons with several examinations may then be on both sides.

    Returns:
        The folds; the same for the same records, ``k`` and ``seed``.

    Raises:
        ValueError: fewer than two folds, a class with fewer persons than folds, or too few to set some aside.

    Source: 3D Mamba MAE, Hu et al. 2024 (``published``, ``k=5``, ``seed=42``).
    """
    from sklearn.model_selection import StratifiedKFold

    records = [dict(record) for record in records]
    labels = np.array([int(record["label"]) for record in records])
    persons = np.array([str(record["patient"]) for record in records])
    if k < 2 or not 0 <= validation < 1:
        raise ValueError(f"at least two folds and a part for validation below 1 are needed, got {k} and {validation}")
    _refuse_few(labels, persons, k)
    if published:
        splitter = StratifiedKFold(n_splits=k, shuffle=True, random_state=seed)
        return [
            Fold(_at(records, train), [], _at(records, test))
            for train, test in splitter.split(np.zeros(len(labels)), labels)
        ]
    result = []
    for number, (rest, test) in enumerate(_grouped(labels, persons, k, seed)):
        train, aside = rest, np.array([], int)
        if validation:
            parts = max(2, round(1 / validation))
            _refuse_few(labels[rest], persons[rest], 2)
            parts = min(parts, _fewest_persons(labels[rest], persons[rest]))
            inner = _grouped(labels[rest], persons[rest], parts, seed + 1 + number)
            kept, held = inner[0]
            train, aside = rest[kept], rest[held]
        result.append(Fold(_at(records, train), _at(records, aside), _at(records, test)))
    return result


def _grouped(labels: np.ndarray, persons: np.ndarray, k: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(n_splits=k, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(labels)), labels, persons))


def _fewest_persons(labels: np.ndarray, persons: np.ndarray) -> int:
    """Number of persons of the rarest class."""
    return min(Counter(label for label, _ in set(zip(labels.tolist(), persons.tolist(), strict=True))).values())


def _refuse_few(labels: np.ndarray, persons: np.ndarray, k: int) -> None:
    if len(set(labels.tolist())) < 2:
        raise ValueError(f"all {len(labels)} records have the same label")
    if (fewest := _fewest_persons(labels, persons)) < k:
        raise ValueError(f"{fewest} persons of the rarer class cannot be spread over {k} folds")


def _at(records: Sequence[dict[str, Any]], places: np.ndarray) -> list[dict[str, Any]]:
    return [records[place] for place in sorted(places.tolist())]
