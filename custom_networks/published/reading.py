"""Safe reading of checkpoint files: tensors and plain values only, never code."""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

# nnU-Net stores numpy scalars in its log and its best metric, masked autoencoders their command line; these names
# rebuild them and nothing else.
_ALLOWED = [
    argparse.Namespace,
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")},
]

WRAPPER_PREFIXES = ("module.", "_orig_mod.")


class CheckpointError(ValueError):
    """A checkpoint that cannot be read safely, or does not fit the network."""


def _why_refused(error: pickle.UnpicklingError) -> str:
    """What a safe read stumbled over, and the way round for networks that were stored as objects."""
    if foreign := re.search(r"GLOBAL ([\w.]{1,200})", str(error)):
        return (
            f"the file asks for {foreign[1]}, which could run code; only tensors and plain values are read. If it is a "
            "whole network and you trust it, save its weights alone where the network's own code is installed: "
            "torch.save(network.state_dict(), path)"
        )
    reason = str(error).splitlines()[0]
    return f"the file is damaged or holds objects other than tensors and plain values ({reason})"


def read_checkpoint(path: str | PathLike[str]) -> dict[str, Any]:
    """Reads a PyTorch or safetensors checkpoint without running any code that it may contain.

    Args:
        path: a ``.safetensors`` file, or a file written by ``torch.save``.

    Returns:
        The stored mapping; tensors are on the CPU.

    Raises:
        CheckpointError: if the file is missing, broken, no mapping, or holds anything but tensors, numpy scalars,
            command-line namespaces and plain Python values. There is no unsafe fall-back.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with torch.serialization.safe_globals(_ALLOWED):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: refused, {_why_refused(error)}") from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({error})") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, expected a mapping of names to tensors")
    return dict(content)


def state_dict_of(content: Mapping[str, Any], containers: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint: below the first present container key, or the mapping itself.

    Prefixes of data-parallel and compiled modules are removed.

    Raises:
        CheckpointError: if some value is no tensor.
    """
    state = next((content[name] for name in containers if isinstance(content.get(name), Mapping)), content)
    cleaned = {}
    for key, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"entry {key!r} is a {type(value).__name__}, expected tensors only "
                f"(or a checkpoint with one of the keys {', '.join(containers)})"
            )
        while key.startswith(WRAPPER_PREFIXES):
            key = key.split(".", 1)[1]
        cleaned[key] = value
    return cleaned
