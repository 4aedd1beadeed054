"""Folders of data sets that the collection writes itself."""

from __future__ import annotations

from pathlib import Path

from custom_apps.common.errors import DataError


def new_data_folder(folder: str | Path, name: str) -> Path:
    """Makes ``folder/name``.

    Raises:
        DataError: if it is there already and not empty.
    """
    root = Path(folder) / name
    if root.exists() and any(root.iterdir()):
        raise DataError(root, "already there and not overwritten", "a folder without this data set")
    root.mkdir(parents=True, exist_ok=True)
    return root
