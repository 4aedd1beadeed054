"""Constructor arguments of the brain system's networks from the shapes in a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from custom_networks.published.position_tables import cube_of
from custom_networks.published.reading import CheckpointError

State = Mapping[str, torch.Tensor]


def _depth(state: State, stack: str) -> int:
    return len({key.split(".")[1] for key in state if key.startswith(f"{stack}.")})


def _attention_blocks(state: State, stack: str) -> list[int]:
    return [i for i in range(_depth(state, stack)) if f"{stack}.{i}.mixer.A_log" not in state]


def _mixer(state: State) -> dict[str, Any]:
    """Mixer and its options, from the first encoder block that is no attention."""
    attention = _attention_blocks(state, "blocks")
    first = next((i for i in range(_depth(state, "blocks")) if i not in attention), None)
    if first is None:
        raise CheckpointError("no block of the checkpoint has a state-space mixer")
    mixer = {key: state[f"blocks.{first}.mixer.{key}"] for key in ("A_log", "conv1d.weight", "out_proj.weight")}
    width, inner = mixer["out_proj.weight"].shape
    options: dict[str, Any] = {"d_conv": mixer["conv1d.weight"].shape[-1], "expand": inner // width}
    if f"blocks.{first}.mixer.dt_bias" in state:
        heads, channels = mixer["A_log"].numel(), mixer["conv1d.weight"].shape[0]
        return {
            "mixer": "mamba2",
            "mixer_options": options | {"d_state": (channels - inner) // 2, "headdim": inner // heads},
        }
    options["d_state"] = mixer["A_log"].shape[1]
    rank = state[f"blocks.{first}.mixer.dt_proj.weight"].shape[1]
    if rank != math.ceil(width / 16):
        options["dt_rank"] = rank
    both, own_projections = (f"blocks.{first}.mixer.{key}" in state for key in ("A_b_log", "conv1d_b.weight"))
    if both and f"blocks.{first}.mixer.gamma" in state:
        options["layer_scale"] = 1.0
    kind = ("bimamba_v2" if own_projections else "bimamba_v1") if both else "mamba"
    return {"mixer": kind, "mixer_options": options}


def _vim(state: State) -> dict[str, Any]:
    arguments = _mixer(state)
    arguments["attention_blocks"] = attention = _attention_blocks(state, "blocks")
    arguments["norm"] = "layer" if "blocks.0.norm.bias" in state else "rms"
    if attention:
        weight, conv = (f"blocks.{attention[0]}.mixer.{key}.weight" for key in ("in_proj", "conv1d"))
        inner = state[weight].shape[0] // 3
        if inner % 128:
            raise CheckpointError("the heads of the attention blocks do not follow from shapes: give attention_options")
        width = state[conv].shape[-1] if conv in state else 0
        arguments["attention_options"] = {"num_heads": inner // 128, "head_dim": 128, "d_conv": width}
    if "mask_token" in state:
        arguments |= {
            "network": "VimMAE",
            "rotary": "sequence_half" if "rope.freqs" in state else "none",
            "token_order": "shuffle",
            "decoder_alignment": "legacy",
            "class_token": "patch_embed.norm.weight" not in state,
            "decoder_attention_blocks": _attention_blocks(state, "decoder_blocks"),
        }
        return arguments
    # Files without rotary tables: the published bidirectional networks rotate, those of Mamba-2 do not.
    rotates = "rope.freqs_cos" in state or arguments["mixer"].startswith("bimamba")
    ends = {"cls_token_head": "both_ends", "cls_token": "front"}
    return arguments | {
        "network": "VimClassifier",
        "rotary": "axial_two_of_three" if rotates else "none",
        "class_token": next((kind for key, kind in ends.items() if key in state), "none"),
    }


def _vit(state: State) -> dict[str, Any]:
    hidden, width = state["blocks.0.mlp.fc1.weight"].shape
    arguments = {"mlp_ratio": hidden / width, "qkv_bias": "blocks.0.attn.qkv.bias" in state}
    if "mask_token" in state:
        return arguments | {"network": "ViTMAE"}
    return arguments | {"network": "ViTClassifier", "pooling": "mean" if "fc_norm.weight" in state else "class_token"}


def arguments_from_state(
    state: State, options: Mapping[str, Any], image_size: Sequence[int] | None = None
) -> dict[str, Any]:
    """Constructor arguments, and ``network``, for a published state dict.

    Numbers of attention heads of vision transformers do not follow from shapes and are left to the constructor. In
    classifiers with one class token it is taken to stand in front.

    Args:
        state: published names to tensors.
        options: command-line options stored in the file; ``mask_ratio`` and ``norm_pix_loss`` are used.
        image_size: voxels along every axis; None for the cube that the position table belongs to.

    Raises:
        CheckpointError: if the shapes do not tell the network.
    """
    if "patch_embed.proj.weight" not in state or "pos_embed" not in state:
        raise CheckpointError("the checkpoint holds no patch embedding or no positions: it is of another system")
    projection = state["patch_embed.proj.weight"]
    width, channels, *patch = projection.shape
    vit = "blocks.0.attn.qkv.weight" in state
    arguments = (_vit if vit else _vim)(state)
    prefix = 1 if vit else {"none": 0, False: 0, "both_ends": 2}.get(arguments["class_token"], 1)
    if image_size is None:
        grid = cube_of(state["pos_embed"].shape[1] - prefix, len(patch))
        image_size = [g * p for g, p in zip(grid, patch, strict=True)]
    arguments |= {
        "in_channels": channels,
        "image_size": list(image_size),
        "patch_size": patch,
        "embed_dim": width,
        "depth": _depth(state, "blocks"),
    }
    if "mask_token" in state:
        arguments |= {
            "decoder_dim": state["mask_token"].shape[-1],
            "decoder_depth": _depth(state, "decoder_blocks"),
            "mask_ratio": options.get("mask_ratio", 0.75),
            "norm_pix": options.get("norm_pix_loss", True),
        }
    else:
        arguments["num_classes"] = state["head.weight"].shape[0]
    return arguments
