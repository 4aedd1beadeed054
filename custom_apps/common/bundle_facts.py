"""What a bundle folder says about itself: name, version, task, inputs, outputs, configurations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from custom_apps.common.errors import DataError

_COMMENT = re.compile(r"(?:^#.*\n)+")
_RUNS = re.compile(r"^(run|'run'|\"run\"):", re.MULTILINE)
_FORMAT_KEYS = ("type", "format", "modality", "num_channels", "spatial_shape", "dtype", "channel_def")


def bundle_facts(bundle: str | Path) -> dict[str, Any]:
    """Facts of a bundle, of plain values that JSON takes.

    Args:
        bundle: folder of the bundle.

    Returns:
        ``version``, ``task``, ``description``, ``intended_use``, ``monai_version``; ``inputs`` and ``outputs`` of the
        network; ``configs`` with what each is for (its first comment), and whether it runs by itself or is merged with
        one that does.

    Raises:
        DataError: if the metadata are missing or no JSON.
    """
    folder = Path(bundle) / "configs"
    path = folder / "metadata.json"
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, f"cannot be read ({error})", "the metadata of a bundle") from error
    known = ("version", "task", "description", "intended_use", "monai_version")
    formats = metadata.get("network_data_format", {})
    return {
        **{key: metadata.get(key) for key in known},
        **{side: _tensors(formats.get(side, {})) for side in ("inputs", "outputs")},
        "configs": {file.stem: _configuration(file) for file in sorted(folder.glob("*.yaml"))},
    }


def _tensors(formats: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: entry[key] for key in _FORMAT_KEYS if entry.get(key) not in (None, "", {})}
        for name, entry in formats.items()
        if isinstance(entry, dict)
    }


def _configuration(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    comment = _COMMENT.match(text)
    title = " ".join(line.lstrip("# ") for line in comment[0].splitlines()) if comment else ""
    return {"title": title, "runs": bool(_RUNS.search(text))}
