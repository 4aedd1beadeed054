"""The description that a phantom data set gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from custom_apps.common.partial_file import write_json

LICENCE = "synthetic, no restrictions"


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
