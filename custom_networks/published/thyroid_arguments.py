"""Constructor arguments of the thyroid system's networks from the shapes in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from custom_networks.published.position_tables import cube_of
from custom_networks.published.reading import CheckpointError

State = Mapping[str, torch.Tensor]

# Attention heads of the published networks by width; shapes do not tell them. Encoders, then decoders.
_HEADS = {768: 12, 1024: 16, 1280: 16}
_DECODER_HEADS = {512: 16}

# Blocks whose output makes the pyramid, by depth.
_TAPS = {12: [3, 5, 7, 11]}

# Arguments that are None where a checkpoint is of no published size.
NOT_IN_SHAPES = ("num_heads", "decoder_num_heads", "taps", "pool_scales")

_TABLE = "relative_position_bias_table"


def _depth(state: State, stack: str) -> int:
    return len({key.split(".")[1] for key in state if key.startswith(f"{stack}.")})


def _ratio(state: State, block: str) -> float:
    """Width of the MLP of a block in units of the block's."""
    hidden, width = state[f"{block}.mlp.fc1.weight"].shape[:2]
    return hidden / width


def _conv_vit(state: State) -> dict[str, Any]:
    kernels = [state[f"patch_embed{i}.proj.weight"] for i in (1, 2, 3)]
    stages = ("blocks1", "blocks2", "blocks3")
    return {
        "in_channels": kernels[0].shape[1],
        "patch_sizes": [kernel.shape[-1] for kernel in kernels],
        "embed_dims": [kernel.shape[0] for kernel in kernels],
        "depths": [_depth(state, stage) for stage in stages],
        "mlp_ratios": [_ratio(state, f"{stage}.0") for stage in stages],
        "num_heads": _HEADS.get(kernels[-1].shape[0]),
    }


def _vit(state: State) -> dict[str, Any]:
    width, channels, patch, _ = state["patch_embed.proj.weight"].shape
    return {
        "in_channels": channels,
        "patch_size": patch,
        "embed_dim": width,
        "depth": _depth(state, "blocks"),
        "mlp_ratio": _ratio(state, "blocks.0"),
        "num_heads": _HEADS.get(width),
    }


def _pyramid(encoder: State) -> dict[str, Any]:
    """Options that only encoders of segmentation networks have."""
    tables = [name for name in encoder if name.endswith(_TABLE)]
    shared = "rel_pos_bias." in "".join(tables)
    kind = "conv_vit" if "blocks3.0.norm1.weight" in encoder else "vit"
    arguments = {
        "encoder": kind,
        "absolute_positions": "pos_embed" in encoder,
        "relative_positions": ("shared" if shared else "each_block") if tables else "none",
        "layer_scale": 1.0 if any(name.endswith("gamma_1") for name in encoder) else None,
    }
    if tables:
        arguments["num_heads"] = encoder[tables[0]].shape[1]
    if kind == "vit":
        arguments["taps"] = _TAPS.get(_depth(encoder, "blocks"))
    return arguments


def _autoencoder(state: State, options: Mapping[str, Any]) -> dict[str, Any]:
    width = state["mask_token"].shape[-1]
    return {
        "decoder_dim": width,
        "decoder_depth": _depth(state, "decoder_blocks"),
        "decoder_num_heads": _DECODER_HEADS.get(width),
        "mask_ratio": options.get("mask_ratio", 0.75),
        "norm_pix": options.get("norm_pix_loss", False),
        # Builders of the deblurring networks are named like the others, with a d in front.
        "loss_on": "all" if str(options.get("model", "")).startswith(("dmae", "dconvmae")) else "hidden",
    }


def _upernet(state: State) -> dict[str, Any]:
    branches = _depth({key.removeprefix("decode_head."): 0 for key in state}, "psp_modules")
    auxiliary = state.get("auxiliary_head.convs.0.conv.weight")
    return {
        "network": "UPerNet",
        "channels": state["decode_head.fpn_bottleneck.conv.weight"].shape[0],
        "pool_scales": [1, 2, 3, 6] if branches == 4 else None,
        "out_channels": state["decode_head.conv_seg.weight"].shape[0],
        "auxiliary_channels": 0 if auxiliary is None else auxiliary.shape[0],
    }


def _unet(state: State) -> dict[str, Any]:
    dense = "decoder.blocks.x_0_0.conv2.0.weight" in state
    name = "decoder.blocks.x_0_{}.conv2.0.weight" if dense else "decoder.blocks.{}.conv2.0.weight"
    return {
        "network": "UNetPlusPlus" if dense else "UNet",
        "channels": [state[name.format(i)].shape[0] for i in range(4)],
        "out_channels": state["segmentation_head.0.weight"].shape[0],
        "full_size": False,
    }


def arguments_from_state(
    state: State, options: Mapping[str, Any], image_size: Sequence[int] | None = None
) -> dict[str, Any]:
    """Constructor arguments, and ``network``, for a published state dict.

    Attention heads follow from the width in the published sizes, and from tables of relative positions.

    Args:
        state: published names to tensors.
        options: command-line options stored in the file; ``mask_ratio``, ``norm_pix_loss`` and ``model`` are used.
            Without them a masked autoencoder is taken for one that predicts hidden patches: weights do not tell whether
            it was trained to remove blur.
        image_size: (height, width); None for the square that the position table belongs to.

    Returns:
        The arguments; those of `NOT_IN_SHAPES` are None where the checkpoint does not tell them.

    Raises:
        CheckpointError: if the shapes do not tell the network.
    """
    arguments: dict[str, Any] = {}
    prefix = ""
    if "decode_head.conv_seg.weight" in state:
        prefix, arguments = "backbone.", _upernet(state)
    elif "segmentation_head.0.weight" in state:
        prefix, arguments = "encoder.", _unet(state)
    encoder = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    conv = "patch_embed1.proj.weight" in encoder
    if not conv and "patch_embed.proj.weight" not in encoder:
        raise CheckpointError("the checkpoint holds no patch embedding: it is of another system")
    arguments |= _conv_vit(encoder) if conv else _vit(encoder)
    if prefix:
        arguments |= _pyramid(encoder)
    elif "mask_token" in state:
        arguments |= {"network": "ConvMAE" if conv else "ViTMAE"} | _autoencoder(state, options)
    elif "head.weight" in state:
        pooling = "mean" if "fc_norm.weight" in state else "first_patch" if conv else "class_token"
        arguments |= {"network": "ConvViTClassifier" if conv else "ViTClassifier", "pooling": pooling}
        arguments["num_classes"] = state["head.weight"].shape[0]
    else:
        raise CheckpointError("the checkpoint holds an encoder without decoder or head: give `network`")
    if image_size is None:
        if "pos_embed" not in encoder:
            raise CheckpointError("the checkpoint holds no positions: give its image size")
        grid = cube_of(encoder["pos_embed"].shape[1] - ("cls_token" in encoder), 2)
        patch = _patch(arguments)
        image_size = [side * patch for side in grid]
    return arguments | {"image_size": list(image_size)}


def _patch(arguments: Mapping[str, Any]) -> int:
    """Pixels of a patch along each axis."""
    if "patch_size" in arguments:
        return arguments["patch_size"]
    first, second, third = arguments["patch_sizes"]
    return first * second * third
