"""From a plan to a network of ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from custom_apps.seg.configuration import Configuration
from custom_networks.nets.umamba import UMambaBot, UMambaEnc
from custom_networks.nets.umamba2 import UMamba2

NETWORKS = {"UMambaBot": UMambaBot, "UMambaEnc": UMambaEnc, "UMamba2": UMamba2}


def import_path(network: type) -> str:
    """Name under which a plan file names one of our networks."""
    return f"{network.__module__}.{network.__qualname__}"


_BY_IMPORT_PATH = {import_path(network): network for network in NETWORKS.values()}


def with_network(configuration: Configuration, name: str, **options: Any) -> Configuration:
    """The configuration with one of our networks in place of the planned one.

    Args:
        configuration: gives the topology.
        name: a key of `NETWORKS`.
        options: further constructor arguments, such as ``mixer``; None values are left out.

    Raises:
        ValueError: for another name, or a U-Mamba2 on a plan without residual encoder.
    """
    if name not in NETWORKS:
        raise ValueError(f"network_name must be one of {', '.join(NETWORKS)}, got {name!r}")
    if name == "UMamba2" and not configuration.residual_encoder:
        raise ValueError("UMamba2 has a residual encoder: plan with planner resenc_m, resenc_l or resenc_xl")
    if name == "UMamba2" and "mixer" in options:
        # U-Mamba2 has one place for a mixer, its bottleneck.
        options = {key: value for key, value in options.items() if key != "mixer"} | {"bottleneck": options["mixer"]}
    return replace(
        configuration,
        network_class_name=import_path(NETWORKS[name]),
        network_arguments={key: value for key, value in options.items() if value is not None},
        kw_requires_import=[],
    )


def build_network(
    configuration: Configuration, in_channels: int, out_channels: int, deep_supervision: bool = False
) -> nn.Module:
    """Builds the network that a configuration names.

    Args:
        configuration: its ``network_class_name`` must be one of ours; plan files name no other code to run.
        in_channels: image channels.
        out_channels: heads.
        deep_supervision: return the logits of every decoder level.

    Raises:
        ValueError: if the configuration names a network that is not ours.
    """
    network = _BY_IMPORT_PATH.get(configuration.network_class_name)
    if network is None:
        raise ValueError(
            f"the plan names the network {configuration.network_class_name!r}, expected one of "
            f"{', '.join(_BY_IMPORT_PATH)}"
        )
    arguments = dict(configuration.network_arguments)
    if network is UMambaEnc:
        arguments["input_size"] = configuration.patch_size
    if network is UMamba2:
        arguments.setdefault("patch_size", configuration.patch_size)
        arguments.setdefault("click_labels", max(out_channels - 1, 1))
    blocks = "n_blocks_per_stage" if network is UMamba2 else "n_conv_per_stage"
    return network(
        spatial_dims=configuration.spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        features_per_stage=configuration.features_per_stage,
        kernel_sizes=configuration.kernel_sizes,
        strides=configuration.strides,
        n_conv_per_stage_decoder=configuration.n_conv_per_stage_decoder,
        deep_supervision=deep_supervision,
        **{blocks: configuration.n_conv_per_stage},
        **arguments,
    )
