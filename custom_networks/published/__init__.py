"""Authors' checkpoints to our networks: safe reading, key maps, strict report."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from torch import nn

from custom_networks.published import brain, echo, thyroid, umamba, umamba2
from custom_networks.published.key_map import LoadReport, load_published_state, published_state
from custom_networks.published.reading import CheckpointError, read_checkpoint, state_dict_of

__all__ = ["SYSTEMS", "CheckpointError", "LoadReport", "export", "load", "read_checkpoint"]

SYSTEMS = {"brain": brain, "echo": echo, "thyroid": thyroid, "umamba": umamba, "umamba2": umamba2}

_CONTAINERS = ("network_weights", "state_dict", "model")


def _system(name: str):
    if name not in SYSTEMS:
        raise CheckpointError(f"system must be one of {sorted(SYSTEMS)}, got {name!r}")
    return SYSTEMS[name]


def load(
    system: str, path_or_state_dict: str | PathLike[str] | Mapping[str, torch.Tensor], **config: Any
) -> tuple[nn.Module, LoadReport]:
    """Builds a published network and fills it with the authors' weights.

    Args:
        system: a key of `SYSTEMS`.
        path_or_state_dict: a checkpoint file (read with ``weights_only=True``), its content, or a bare state dict.
        config: constructor arguments of our network, and ``network`` for its class. May be left out for files that
            carry their plan (nnU-Net checkpoints) and where shapes tell it (``brain``); given values replace those
            found. Systems may have options beside them: their ``LOAD_OPTIONS``.

    Returns:
        The network in evaluation mode, and the report.

    Raises:
        CheckpointError: if the file cannot be read safely, or a key is missing, unexpected, of another shape, or a
            duplicate that disagrees.
    """
    adapter = _system(system)
    content = (
        dict(path_or_state_dict) if isinstance(path_or_state_dict, Mapping) else read_checkpoint(path_or_state_dict)
    )
    if isinstance(content.get("init_args"), Mapping):
        config = adapter.arguments_from_checkpoint(content) | config
    elif "network" not in config and hasattr(adapter, "arguments_from_content"):
        config = adapter.arguments_from_content(content, config.get("image_size")) | config
    if "network" not in config:
        raise CheckpointError("the checkpoint carries no plan: give `network` and its constructor arguments")
    options = {name: config.pop(name) for name in getattr(adapter, "LOAD_OPTIONS", ()) if name in config}
    network = adapter.build(**config)
    if hasattr(adapter, "read_state"):
        state = adapter.read_state(content, network, **options)
    else:
        state = state_dict_of(content, _CONTAINERS)
    report = load_published_state(network, state, adapter.published_names(network))
    return network.eval(), report


def export(system: str, network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of one of our networks under the published names, duplicates included."""
    adapter = _system(system)
    if hasattr(adapter, "export_state"):
        return adapter.export_state(network)
    return published_state(network, adapter.published_names(network))
