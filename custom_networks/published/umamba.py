"""Published U-Mamba weights: names, and the network that an nnU-Net checkpoint describes.

Source: checkpoints of bowang-lab/U-Mamba (Apache-2.0), written by nnU-Net trainers. Their state dicts hold the encoder
twice (the decoder keeps a reference) and the convolution blocks twice more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from custom_networks.layers.conv_blocks import ConvNorm
from custom_networks.nets.umamba import UMambaBot, UMambaEnc
from custom_networks.published.key_map import NameTable
from custom_networks.published.nnunet_plan import architecture_of, resolve_configuration
from custom_networks.published.reading import CheckpointError

NETWORKS = {"UMambaBot": UMambaBot, "UMambaEnc": UMambaEnc}

# Trainer names begin with these; variants without mixed precision only add a suffix.
_TRAINERS = {"nnUNetTrainerUMambaBot": "UMambaBot", "nnUNetTrainerUMambaEnc": "UMambaEnc"}

_RENAMES = [
    (r"\.shortcut\.", ".conv3."),
    (r"^encoder\.mixers\.(\d+)\.mixer\.", r"encoder.mamba_layers.\1.mamba."),
    (r"^encoder\.mixers\.", "encoder.mamba_layers."),
    (r"^bottleneck\.mixer\.", "mamba_layer.mamba."),
    (r"^bottleneck\.", "mamba_layer."),
    (r"^decoder\.upsample\.", "decoder.upsample_layers."),
    (r"^decoder\.heads\.", "decoder.seg_layers."),
]

_CONV_NORM = re.compile(r"\.(conv|norm)\.(weight|bias)$")


def table_of(network: nn.Module, rename: Callable[[str], str]) -> NameTable:
    """Our keys to the published name and its repetitions.

    nnU-Net's convolution blocks register their layers twice (``conv`` and ``all_modules.0``, ``norm`` and
    ``all_modules.1``), and its decoder registers the encoder once more.
    """
    table = {}
    for key in network.state_dict():
        group = [rename(key)]
        owner = key.rsplit(".", 2)[0]
        if _CONV_NORM.search(key) and isinstance(network.get_submodule(owner), ConvNorm):
            group.append(_CONV_NORM.sub(lambda m: f".all_modules.{('conv', 'norm').index(m[1])}.{m[2]}", group[0]))
        if group[0].startswith("encoder."):
            group += [f"decoder.{name}" for name in group]
        table[key] = group
    return table


def rename_by(rules: list[tuple[str, str]], key: str) -> str:
    """Applies regular-expression substitutions in order."""
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def published_names(network: nn.Module) -> NameTable:
    """Our keys of a U-Mamba network to the published ones."""
    return table_of(network, lambda key: rename_by(_RENAMES, key))


def build(network: str, **arguments: Any) -> nn.Module:
    """The network class named ``network`` ("UMambaBot" or "UMambaEnc") with our constructor arguments.

    Raises:
        CheckpointError: for another name.
    """
    if network not in NETWORKS:
        raise CheckpointError(f"U-Mamba has the networks {sorted(NETWORKS)}, not {network!r}")
    return NETWORKS[network](**arguments)


def plan_arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments that nnU-Net checkpoints fix: dimensions, channels, topology, and the patch size."""
    init = content["init_args"]
    configuration, dataset = resolve_configuration(init["plans"], init["configuration"]), init["dataset_json"]
    labels = [value for name, value in dataset["labels"].items() if name != "ignore"]
    regions = any(isinstance(value, (list, tuple)) and len(value) > 1 for value in labels)
    return {
        "spatial_dims": len(configuration["patch_size"]),
        "in_channels": len(dataset.get("channel_names", dataset.get("modality", {}))),
        "out_channels": len(labels) - 1 if regions else len(labels),
        "deep_supervision": False,
        **architecture_of(configuration),
    }


def patch_size_of(content: Mapping[str, Any]) -> list[int]:
    """Patch size of the configuration that a checkpoint was trained with."""
    init = content["init_args"]
    return list(resolve_configuration(init["plans"], init["configuration"])["patch_size"])


def arguments_from_checkpoint(content: Mapping[str, Any]) -> dict[str, Any]:
    """What `build` needs, from the plan inside an nnU-Net checkpoint.

    Raises:
        CheckpointError: if the checkpoint was not written by a U-Mamba trainer.
    """
    trainer = str(content.get("trainer_name", ""))
    network = next((name for prefix, name in _TRAINERS.items() if trainer.startswith(prefix)), None)
    if network is None:
        raise CheckpointError(f"trainer {trainer!r} is not one of U-Mamba ({', '.join(_TRAINERS)})")
    arguments = {"network": network, **plan_arguments(content)}
    return arguments | ({"input_size": patch_size_of(content)} if network == "UMambaEnc" else {})
