"""Rows of an evaluation from all processes, each case once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, TypeVar

import torch.distributed as dist

from custom_apps.common.distributed import world_size

Row = TypeVar("Row")


def gather_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows of all processes, those of rank 0 first; the same list on every process."""
    if world_size() == 1:
        return list(rows)
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, list(rows))
    return [row for part in gathered for row in part]


def each_once(rows: Sequence[dict[str, Any]], key: str = "case") -> list[dict[str, Any]]:
    """The first row of every case, sorted by ``key``.

    A distributed sampler repeats cases to give every process as many; their rows must not count twice.
    """
    unique: dict[Hashable, dict[str, Any]] = {}
    for row in rows:
        unique.setdefault(row[key], row)
    return [unique[name] for name in sorted(unique)]
