"""The network part of an nnU-Net plan, in both layouts.

Plans up to nnU-Net v2.2 describe the network by flat keys (``UNet_base_num_features``, ``pool_op_kernel_sizes`` …),
later ones by an ``architecture`` entry. Configurations may inherit from others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def resolve_configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration of a plan with everything it inherits filled in.

    Raises:
        KeyError: if the configuration, or one it inherits from, is not in the plan.
        ValueError: if the inheritance is circular.
    """
    chain, configurations = [], plans["configurations"]
    while name is not None:
        if name in chain:
            raise ValueError(f"configuration {name!r} inherits from itself through {chain}")
        if name not in configurations:
            raise KeyError(f"configuration {name!r} is not in the plan, which has {sorted(configurations)}")
        chain.append(name)
        name = configurations[name].get("inherits_from")
    merged: dict[str, Any] = {}
    for entry in reversed(chain):
        merged.update(configurations[entry])
    merged.pop("inherits_from", None)
    return merged


def architecture_of(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Topology of a resolved configuration: widths, kernels, strides and convolutions per stage.

    Returns:
        ``features_per_stage``, ``kernel_sizes``, ``strides``, ``n_conv_per_stage``, ``n_conv_per_stage_decoder``.
    """
    if "architecture" in configuration:
        arguments = configuration["architecture"]["arch_kwargs"]
        convs = arguments.get("n_conv_per_stage", arguments.get("n_blocks_per_stage"))
        features, kernels, strides = (arguments[k] for k in ("features_per_stage", "kernel_sizes", "strides"))
        decoder = arguments["n_conv_per_stage_decoder"]
    else:
        kernels, strides = configuration["conv_kernel_sizes"], configuration["pool_op_kernel_sizes"]
        convs, decoder = configuration["n_conv_per_stage_encoder"], configuration["n_conv_per_stage_decoder"]
        base, widest = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
        features = [min(base * 2**i, widest) for i in range(len(strides))]
    stages = len(strides)
    repeat = lambda value, count: [value] * count if isinstance(value, int) else list(value)  # noqa: E731
    return {
        "features_per_stage": list(features),
        "kernel_sizes": [list(k) for k in kernels],
        "strides": [list(s) for s in strides],
        "n_conv_per_stage": repeat(convs, stages),
        "n_conv_per_stage_decoder": repeat(decoder, stages - 1),
    }
