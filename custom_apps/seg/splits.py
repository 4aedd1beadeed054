"""Cross-validation splits of the training cases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from custom_apps.common.errors import DataError

SEED = 12345
Split = dict[str, list[str]]


def make_splits(cases: Sequence[str], n: int = 5) -> list[Split]:
    """Shuffled ``n``-fold split of the sorted case names, the one every nnU-Net installation makes.

    Args:
        cases: case names, any order.
        n: number of folds.

    Returns:
        For each fold ``{"train": names, "val": names}``, sorted.

    Raises:
        ValueError: with fewer cases than folds.
    """
    from sklearn.model_selection import KFold

    names = np.array(sorted(cases))
    if len(names) < n:
        raise ValueError(f"{len(names)} cases, expected at least {n} for {n} folds")
    folds = KFold(n_splits=n, shuffle=True, random_state=SEED).split(names)
    return [{"train": names[train].tolist(), "val": names[val].tolist()} for train, val in folds]


def random_split(cases: Sequence[str], fold: int) -> Split:
    """Seeded random 80:20 split, used for fold numbers that no split file lists.

    Raises:
        ValueError: with fewer than two cases.
    """
    names = sorted(cases)
    if len(names) < 2:
        raise ValueError(f"{len(names)} cases, expected at least 2 to hold some out (fold 'all' trains on every case)")
    chosen = np.random.RandomState(SEED + fold).choice(len(names), int(len(names) * 0.8), replace=False)
    train = {names[i] for i in chosen}
    return {"train": sorted(train), "val": [name for name in names if name not in train]}


def read_splits(path: str | Path, cases: Sequence[str]) -> list[Split]:
    """Reads ``splits_final.json``; other keys of a split (``unlabeled``) are kept.

    Args:
        path: the file.
        cases: names that exist.

    Raises:
        DataError: when it is not a list of splits, or names a case that does not exist.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, f"cannot be read ({error})", "a list of splits") from error
    if not isinstance(content, list) or not all(isinstance(split, dict) for split in content):
        raise DataError(path, "is not a list of splits", '[{"train": [...], "val": [...]}, ...]')
    known = set(cases)
    for number, split in enumerate(content):
        for key in ("train", "val"):
            if not isinstance(split.get(key), list):
                raise DataError(path, f"split {number} has no list '{key}'", '{"train": [...], "val": [...]}')
            if unknown := sorted(set(split[key]) - known):
                raise DataError(
                    path, f"split {number} names the unknown case '{unknown[0]}' in '{key}'", "a prepared case"
                )
    return content


def select_fold(splits: Sequence[Split], cases: Sequence[str], fold: int | str) -> tuple[list[str], list[str]]:
    """Training and validation names of a fold.

    Args:
        splits: listed splits, possibly none.
        cases: every case.
        fold: a number, or ``"all"``: both lists are every case (validation figures are then training figures).

    Raises:
        ValueError: for anything else, or when there are too few cases.
    """
    if fold == "all":
        return sorted(cases), sorted(cases)
    if isinstance(fold, bool) or not str(fold).isdecimal():
        raise ValueError(f"fold is {fold!r}, expected a number >= 0 or 'all'")
    number = int(fold)
    split = splits[number] if number < len(splits) else random_split(cases, number)
    return list(split["train"]), list(split["val"])
