"""Published U-Mamba2 weights: names and network classes.

Source: checkpoints of zhiqin1998/UMamba2. The authors' weights are under CC BY-NC 4.0 and stay so after conversion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from custom_networks.nets.umamba2 import UMamba2
from custom_networks.published.key_map import NameTable
from custom_networks.published.nnunet_plan import resolve_configuration
from custom_networks.published.reading import CheckpointError
from custom_networks.published.umamba import patch_size_of, plan_arguments, rename_by, table_of
from custom_networks.published.umamba_autoencoder import arguments_from_content, read_state

__all__ = ["arguments_from_checkpoint", "arguments_from_content", "build", "published_names", "read_state"]

# Published class to our bottleneck.
NETWORKS = {
    "ResidualEncoderUNet": "none",
    "UMambaBot": "mamba",
    "UMambaBot2": "mamba2",
    "UMambaBot2PE": "mamba2_pe",
    "UMambaBot2_Click": "mamba2_click",
    "UMambaBot2_CrossAttn_Click": "mamba2_cross_click",
    "UMambaBot2_CrossAttn_Click2": "mamba2_cross_click2",
}

_RENAMES = [
    (r"^encoder\.stem\.", "encoder.stem.convs.0."),
    (r"^encoder\.stages\.(\d+)\.(\d+)\.", r"encoder.stages.\1.blocks.\2."),
    (r"^decoder\.stages\.(\d+)\.(\d+)\.", r"decoder.stages.\1.convs.\2."),
    (r"^decoder\.upsample\.", "decoder.transpconvs."),
    (r"^decoder\.heads\.", "decoder.seg_layers."),
    (r"^bottleneck\.mixer\.", "mamba_layer.mamba."),
    (r"^bottleneck\.position_code\.frequencies", "mamba_layer.position_encoder.positional_encoding_gaussian_matrix"),
    (
        r"^bottleneck\.click_encoder\.position_code\.frequencies",
        "mamba_layer.point_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    (r"^bottleneck\.click_encoder\.label_embeddings\.(\d+)", r"mamba_layer.point_encoder.point_embeddings.\1.weight"),
    (r"^bottleneck\.click_encoder\.not_a_point", "mamba_layer.point_encoder.not_a_point_embed.weight"),
    (r"^bottleneck\.", "mamba_layer."),
    (r"\.self_attention\.", ".self_attn."),
    (r"\.query_to_image\.", ".cross_attn_token_to_image."),
    (r"\.image_to_query\.", ".cross_attn_image_to_token."),
    (r"\.mlp\.0\.", ".mlp.layers.0."),
    (r"\.mlp\.2\.", ".mlp.layers.1."),
]


def published_names(network: UMamba2) -> NameTable:
    """Our keys of a U-Mamba2 network to the published ones."""
    one_block = len(getattr(network.bottleneck, "cross_attention", ())) == 1

    def rename(key: str) -> str:
        name = rename_by(_RENAMES, key)
        if ".projection." in key:
            # The published shortcut is a sequence: pooling, if any, comes before the projection.
            block = network.get_submodule(key.split(".projection.")[0])
            name = name.replace(".projection.", f".skip.{0 if isinstance(block.pool, nn.Identity) else 1}.")
        return name.replace(".cross_attention.0.", ".cross_attention.") if one_block else name

    return table_of(network, rename)


def build(network: str, **arguments: Any) -> nn.Module:
    """The published class named ``network`` as one of ours, with our constructor arguments.

    Raises:
        CheckpointError: for another name.
    """
    if network not in NETWORKS:
        raise CheckpointError(f"U-Mamba2 has the networks {sorted(NETWORKS)}, not {network!r}")
    return UMamba2(bottleneck=NETWORKS[network], **arguments)


def arguments_from_checkpoint(content: Mapping[str, Any]) -> dict[str, Any]:
    """What `build` needs, from the plan inside a checkpoint of the U-Mamba2 trainers.

    Raises:
        CheckpointError: if the plan names a network that U-Mamba2 does not have.
    """
    configuration = resolve_configuration(content["init_args"]["plans"], content["init_args"]["configuration"])
    network = str(configuration.get("architecture", {}).get("network_class_name", "")).rsplit(".", 1)[-1]
    if network not in NETWORKS:
        raise CheckpointError(f"the plan names the network {network!r}, expected one of {sorted(NETWORKS)}")
    arguments = {"network": network, **plan_arguments(content)}
    arguments["n_blocks_per_stage"] = arguments.pop("n_conv_per_stage")
    return arguments | ({"patch_size": patch_size_of(content)} if "Click" in network else {})
