"""Checkpoint files: written whole, read safely, loaded strictly, never lost."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from custom_apps.common.disk_space import bytes_of, require_space
from custom_apps.common.distributed import without_ddp
from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import partial_file

SHOWN_KEYS = 3
logger = logging.getLogger(__name__)


def save_whole(content: Any, path: str | Path) -> None:
    """Writes a checkpoint under a temporary name and renames it, so that ``path`` is never half a file.

    Raises:
        DataError: if the disk has no room for it; what was there before stays.
    """
    require_space(path, bytes_of(content), "a checkpoint")
    with partial_file(path) as temporary:
        torch.save(content, temporary)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint of tensors and plain values to the CPU.

    Raises:
        DataError: when it is missing, unreadable, or holds anything but a dictionary of safe values.
    """
    if not Path(path).is_file():
        raise DataError(path, "no such file", "a checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        problem = f"cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        raise DataError(path, problem, "a checkpoint of tensors and plain values") from error
    if not isinstance(content, dict):
        raise DataError(path, f"holds a {type(content).__name__}", "a dictionary")
    return content


def load_weights(network: nn.Module, weights: Mapping[str, Any], path: str | Path) -> None:
    """Loads a state dict strictly; nothing is changed when it does not fit.

    Raises:
        DataError: naming ``path`` and the first keys that are missing, unexpected or of another shape.
    """
    own = without_ddp(network).state_dict()
    reshaped = [
        f"{key} {tuple(getattr(weights[key], 'shape', ()))} instead of {tuple(value.shape)}"
        for key, value in own.items()
        if key in weights and getattr(weights[key], "shape", None) != value.shape
    ]
    problems = {
        "missing": [key for key in own if key not in weights],
        "unexpected": [str(key) for key in weights if key not in own],
        "of another shape": reshaped,
    }
    found = [f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in problems.items() if keys]
    if found:
        raise DataError(path, f"belongs to another network: keys {', '.join(found)}", f"{len(own)} matching keys")
    without_ddp(network).load_state_dict(weights)


def install_weights(network: nn.Module, content: Mapping[str, Any], folder: str | Path) -> list[Path]:
    """Writes a network's weights as ``model.pt``, as a bundle's training leaves and its configurations read them.

    Args:
        network: network to store.
        content: the checkpoint that its weights come from; not used.
        folder: where to write; must not hold a model yet.

    Returns:
        The file written.

    Raises:
        DataError: if the folder already holds weights.
    """
    path = Path(folder) / "model.pt"
    if path.exists():
        raise DataError(path, "already there and not overwritten", "a folder without a model")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_whole(without_ddp(network).state_dict(), path)
    return [path]


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN_KEYS]) + (", …" if len(keys) > SHOWN_KEYS else "")


def set_aside(path: str | Path) -> Path | None:
    """Renames an existing file to the first free ``name.1.ending``, ``name.2.ending``, …, so that it is not lost.

    Returns:
        the new path, None when there was no file.
    """
    path = Path(path)
    if not path.exists():
        return None
    number = 1
    while (kept := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    os.replace(path, kept)
    logger.warning("%s is of an earlier run and was kept as %s", path, kept.name)
    return kept
