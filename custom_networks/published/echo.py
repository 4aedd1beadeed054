"""Published E-ViM3 weights: names, network classes, configurations and checkpoint files.

Source: checkpoints written by the training code of HenryZhou19/E-ViM3 (MPL-2.0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from custom_networks.nets.mamba3d_classifier import Mamba3DClassifier
from custom_networks.nets.mamba3d_mae import Mamba3DMAE
from custom_networks.nets.mamba3d_regressor import Mamba3DRegressor
from custom_networks.nets.mamba3d_segmenter import Mamba3DSegmenter
from custom_networks.published.echo_weights import choose_weights, resize_positions
from custom_networks.published.encoder_transfer import Pretrained, content_of, fill_encoder
from custom_networks.published.key_map import LoadReport, NameTable
from custom_networks.published.reading import CheckpointError

# Published name of a model to our class.
NETWORKS = {
    "pretrain_video_mamba_3d_efficient": Mamba3DMAE,
    "echo_dynamic_video_mamba_3d": Mamba3DRegressor,
    "echo_dynamic_video_mamba_3d_seg": Mamba3DSegmenter,
    "buv_video_mamba_3d": Mamba3DClassifier,
}

# Arguments of `read_state` that `custom_networks.published.load` hands on.
LOAD_OPTIONS = ("weights", "interpolate_positions", "register_planes_of_file")

_AXES = {"frames": "l", "rows": "h", "columns": "w"}

_BLOCK = [
    (r"\.mixer\.core\.(\w+)_reverse\b", r".mixer.core.\1_rev"),
    (r"\blayers\.(\d+)\.mixer\.core\.", r"mamba_layers.\1.mamba_block."),
    (r"\blayers\.(\d+)\.norm\.", r"mamba_layers.\1.norm."),
    (r"\b(hwl|lwh|lhw|l|h|w)_reverse\.(?=mamba_layers|final_norm)", r"r_\1_mamba."),
    (r"\b(hwl|lwh|lhw|l|h|w)\.(?=mamba_layers|final_norm)", r"\1_mamba."),
]

_COMMON = [
    (r"^encoder\.patch_embedding\.projection\.", "net.patch_embed.proj."),
    (r"^encoder\.enclosure\.register$", "net.global_reg_token"),
    (r"^encoder\.enclosure\.(faces|edges|corners)$", r"net.global_\1_token"),
    (r"^encoder\.enclosure\.token$", "net.global_token"),
    (r"^encoder\.blocks\.", "net.encoder."),
    (r"^encoder_mask_token$", "encoder_random_patch_mask_maker.mask_token"),
    (r"^mask_token$", "decoder_random_patch_mask_maker.mask_token"),
    (r"^decoder_blocks\.", "pretrain_decoder.decoder_blocks."),
    (r"^decoder_norm\.", "pretrain_decoder.final_norm."),
    (r"^decoder_head\.", "pretrain_decoder.patch_reconstruct."),
    (r"^aggregation\.norm\.", "final.final_norm."),
    (r"^aggregation\.linear\.", "final.final_linear.mlp.0."),
    (r"^frame_aggregation\.linear\.", "frame_final.final_linear.mlp.0."),
    (r"^norm\.", "final.final_norm."),
    (r"^head\.(weight|bias)$", r"final.patch_reconstruct.\1"),
]

_GROUPS = ("faces", "edges", "corners", "register")


def block_name(key: str) -> str:
    """Published name of a parameter of a Mamba-3D block, a stack or a mixer."""
    for pattern, replacement in _BLOCK:
        key = re.sub(pattern, replacement, key)
    return key


def published_names(network: nn.Module) -> NameTable:
    """Our keys of an E-ViM3 network to the published ones."""
    head = "cls_head" if isinstance(network, Mamba3DClassifier) else "ef_head"
    grouped = network.encoder.enclosure.kind == "group_unified"

    def rename(key: str) -> str:
        if match := re.fullmatch(r"(encoder|decoder)(?:\.|_)positions\.(\w+)", key):
            return f"{'net.' if match[1] == 'encoder' else 'pretrain_decoder_'}{_AXES[match[2]]}_pos_embed"
        if match := re.fullmatch(r"(frame_)?head\.layers\.(\d+)\.(\w+)", key):
            return f"{'frame_cls_head' if match[1] else head}.net.mlp.{2 * int(match[2])}.{match[3]}"
        if grouped and (match := re.fullmatch(r"encoder\.enclosure\.(\w+)", key)):
            return f"net.global_token{_GROUPS.index(match[1]) + 1}"
        for pattern, replacement in _COMMON:
            key = re.sub(pattern, replacement, key)
        return block_name(key)

    return {key: [rename(key)] for key in network.state_dict()}


def build(network: str, **arguments: Any) -> nn.Module:
    """The published model named ``network`` as one of ours, with our constructor arguments.

    Raises:
        CheckpointError: for another name.
    """
    if network not in NETWORKS:
        raise CheckpointError(f"E-ViM3 has the networks {sorted(NETWORKS)}, not {network!r}")
    return NETWORKS[network](**arguments)


def read_state(
    content: Mapping[str, Any],
    network: nn.Module,
    weights: str = "online",
    interpolate_positions: bool = False,
    register_planes_of_file: Sequence[int] | None = None,
) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint that are meant for ``network``.

    The bidirectional Mamba-2 mixer stores a skip weight for the reverse direction that it never reads; it is left out.

    Args:
        content: of a checkpoint file, see `choose_weights`.
        network: an E-ViM3 network of ours.
        weights: "online" or "ema".
        interpolate_positions: fit position tables of another clip size or other register planes.
        register_planes_of_file: register planes of the network that wrote the file; None if they are the same.

    Raises:
        CheckpointError: if the file has no such weights.
    """
    state = choose_weights(content, weights)
    if interpolate_positions:
        state = resize_positions(state, network.encoder.layout, register_planes_of_file)
    own = network.state_dict()
    shapes = {group[0]: own[key].shape for key, group in published_names(network).items()}
    # Tokens that several faces share may come with another number of axes of size one.
    state = {
        name: tensor.view(shapes[name])
        if name.startswith("net.global_token") and name in shapes and tensor.numel() == shapes[name].numel()
        else tensor
        for name, tensor in state.items()
    }
    return {name: tensor for name, tensor in state.items() if name in shapes or not name.endswith("mamba_block.D_rev")}


def start_from_encoder(pretrained: Pretrained, network: nn.Module, strict: bool = True, **options: Any) -> LoadReport:
    """Starts ``network`` from the encoder of a pre-trained one; its heads keep their values.

    Args:
        pretrained: a checkpoint file or its content, published or of this project.
        network: one of our E-ViM3 networks.
        strict: whether every tensor of the encoder has to be in the file.
        options: those of `read_state`.

    Returns:
        The report: ``ignored`` lists what the file holds beside the encoder, ``kept`` what of the network it has not
        filled.

    Raises:
        CheckpointError: if a tensor is of another shape, the file holds an encoder's tensor that the network lacks or
            nothing of an encoder, or, if ``strict``, lacks one. The network is then unchanged.
    """
    state = read_state(content_of(pretrained), network, **options)
    # Our own files use our names.
    names = {key: [*group, key] for key, group in published_names(network).items() if key.startswith("encoder.")}
    beside = [name for name in state if not name.startswith(("net.", "encoder."))]
    return fill_encoder(network, state, names, beside, strict)


transfer_encoder = start_from_encoder


def arguments_from_config(model: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments of our network for the ``model`` and ``data`` sections of a published configuration.

    Keys that are absent take the defaults of the published code. ``model_choice`` is handed on as ``network``.

    Raises:
        CheckpointError: for options that no published model has.
    """
    size = data["resize_to"]
    if model.get("mamba_3d_forward_type", "serial") != "serial" or not model.get("new_scan", True):
        raise CheckpointError("only the serial form of the published scan exists")
    registers = [model.get("unified_reg_num", model.get(f"{axis}_reg_num", 0)) for axis in "lhw"]
    dim, enclosure = model.get("embed_dim", 384), model.get("enclosure_type", "default")
    arguments = {
        "in_channels": data.get("in_channels", 1),
        "clip_size": [data["length"], size, size],
        "time_patch_size": model.get("time_patch_size", 1),
        "patch_size": model.get("patch_size", 16),
        "embed_dim": dim,
        "num_macro_blocks": model.get("macro_block_num", 12),
        "layers_per_stack": model.get("n_mamba_per_block", 1),
        "register_planes": registers,
        "mixer": model.get("mamba_block_type", "mamba"),
        "enclosure": "separate" if enclosure == "default" else enclosure,
        "position_embedding": model.get("use_pos_embed", True),
        "drop_path": model.get("drop_path", 0.0),
    }
    choice = model.get("model_choice")
    if choice == "pretrain_video_mamba_3d_efficient":
        arguments |= {
            "decoder_blocks": model["decoder_additional_blocks"],
            "mask_ratio": model["mask_prob"],
            "time_mask_chain": model.get("time_mask_chain", 1),
            "mask_chain": model.get("mask_chain", 1),
            "decoder_sees_mask_tokens_only": model.get("decoder_all_mask", False),
        }
    elif choice != "echo_dynamic_video_mamba_3d_seg":
        mode = model.get("final_aggregate_mode", "all_mean")
        arguments |= {
            "aggregation": mode,
            "final_dim": model.get("final_dim", dim),
            "head_layers": model.get("head_layers", 3),
        }
        if choice == "buv_video_mamba_3d":
            arguments["frame_aggregation"] = mode
        else:
            arguments["initial_output"] = 44.412 if model.get("head_type") == "camus_ef" else 55.777
    return arguments | {"network": choice}
