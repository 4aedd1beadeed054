"""What phantom data sets share: their folders, their description, and that nothing is overwritten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import write_json

LICENCE = "synthetic, no restrictions"


def new_dataset_folder(folder: str | Path, name: str) -> Path:
    """Makes ``folder/name``.

    Raises:
        DataError: if it is there already and not empty.
    """
    root = Path(folder) / name
    if root.exists() and any(root.iterdir()):
        raise DataError(root, "already there and not overwritten", "a folder without this data set")
    root.mkdir(parents=True, exist_ok=True)
    return root


def write_description(
    root: Path, channels: list[str], labels: dict[str, int], cases: int, file_ending: str, description: str
) -> None:
    """Writes ``dataset.json``, last, so that it marks a complete data set."""
    content: dict[str, Any] = {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": labels,
        "numTraining": cases,
        "file_ending": file_ending,
        "name": root.name,
        "description": description,
        "licence": LICENCE,
    }
    write_json(content, root / "dataset.json")
