"""Every case once, with the number of the fold that holds it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from custom_apps.brain.folds import Fold


def out_of_fold_records(folds: Sequence[Fold], only: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Test records of the folds, sorted by fold, each with ``fold``.

    Args:
        folds: as from :func:`custom_apps.brain.folds.folds`.
        only: numbers of the folds that are wanted; None for all.

    Raises:
        ValueError: for a number that is no fold's.
    """
    chosen = range(len(folds)) if only is None else list(only)
    if lost := [number for number in chosen if number not in range(len(folds))]:
        raise ValueError(f"there are {len(folds)} folds, from 0 to {len(folds) - 1}; not {lost}")
    return [record | {"fold": number} for number in chosen for record in folds[number].test]
