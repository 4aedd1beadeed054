"""Whether there is room on the disk, asked before hours of work are lost to a full one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from custom_apps.common.errors import DataError

SPARE_BYTES = 16 * 2**20
"""What shall be left over, for tables, figures and the file system itself."""


def free_bytes(path: str | Path) -> int:
    """Free space where a file or folder is, or would be made."""
    place = Path(path).resolve()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def require_space(path: str | Path, needed_bytes: int, purpose: str) -> None:
    """Makes sure that a file, or the content of a folder, fits on the disk.

    Args:
        path: where it goes.
        needed_bytes: how large it becomes.
        purpose: what it is, for the message.

    Raises:
        DataError: naming what is needed and what is free.
    """
    free = free_bytes(path)
    if needed_bytes + SPARE_BYTES > free:
        problem = f"no room for {purpose}: {readable(needed_bytes)} needed, {readable(free)} free"
        raise DataError(path, problem, "more free space, or another folder")


def bytes_of(content: Any) -> int:
    """Size of the tensors in nested dictionaries, lists and tuples; tensors that share memory count once."""
    storages: dict[int, int] = {}

    def visit(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(value, Mapping):
            for item in value.values():
                visit(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                visit(item)

    visit(content)
    return sum(storages.values())


def readable(count: float) -> str:
    """Bytes as MiB or GiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
