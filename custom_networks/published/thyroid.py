"""Published weights of Deblurring MAE and Deblurring ConvMAE for thyroid ultrasound, and of their parents.

Source: checkpoints of MembrAI/DeblurringMAE (arXiv:2306.08249), and of MAE and ConvMAE, whose names they share. The
authors' weights are under CC BY-NC 4.0 and stay so after conversion.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from custom_networks.layers.relative_position_bias import (
    CLASS_TOKEN_ROWS,
    RelativePositionBias,
    relative_position_index,
    resample_bias_table,
)
from custom_networks.nets.conv_mae import ConvMAE
from custom_networks.nets.conv_vit_classifier import ConvViTClassifier
from custom_networks.nets.token_pyramids import ConvViTPyramid
from custom_networks.nets.unet_decoders import UNet, UNetPlusPlus
from custom_networks.nets.upernet import UPerNet
from custom_networks.nets.vim_classifier import VimClassifier
from custom_networks.nets.vit_classifier import ViTClassifier
from custom_networks.nets.vit_mae import ViTMAE
from custom_networks.published import brain
from custom_networks.published.encoder_transfer import Pretrained, draw_head, fill_encoder, pretrained_state
from custom_networks.published.key_map import LoadReport, NameTable, published_state
from custom_networks.published.position_tables import cube_of, fit_positions
from custom_networks.published.reading import CheckpointError, state_dict_of
from custom_networks.published.thyroid_arguments import NOT_IN_SHAPES, arguments_from_state
from custom_networks.published.umamba import rename_by
from custom_networks.published.vit_names import VIT_RENAMES

NETWORKS = {
    "ViTMAE": ViTMAE,
    "ConvMAE": ConvMAE,
    "ViTClassifier": ViTClassifier,
    "ConvViTClassifier": ConvViTClassifier,
    "UPerNet": UPerNet,
    "UNet": UNet,
    "UNetPlusPlus": UNetPlusPlus,
}

_CONTAINERS = ("state_dict", "model", "module")

# Ours to theirs, as regular expressions.
_CONV_VIT_RENAMES = [
    (r"^patch_embedding\.projection\.", "patch_embed4."),
    *((rf"^patch_embedding\.embeddings\.{i}\.projection\.", f"patch_embed{i + 1}.proj.") for i in range(3)),
    *((rf"^patch_embedding\.embeddings\.{i}\.norm\.", f"patch_embed{i + 1}.norm.") for i in range(3)),
    *((rf"^patch_embedding\.stages\.{i}\.", f"blocks{i + 1}.") for i in range(2)),
    *((rf"^fusions\.{i}\.", f"stage{i + 1}_output_decode.") for i in range(2)),
    (r"^encoder\.blocks\.", "blocks3."),
    (r"\.depthwise\.", ".attn."),
    (r"\.(fc[12])\.", r".mlp.\1."),
    (r"^coarsest\.", "fpn."),
]

_ENCODER_RENAMES = [
    (r"^encoder\.position_bias\.table$", "rel_pos_bias.relative_position_bias_table"),
    (r"\.attention\.position_bias\.table$", ".attn.relative_position_bias_table"),
    (r"\.attention_scale$", ".gamma_1"),
    (r"\.mlp_scale$", ".gamma_2"),
    *((rf"^scales\.{i}\.", f"fpn{i + 1}.") for i in range(2)),
    *VIT_RENAMES,
]

_UPERNET_RENAMES = [
    (r"^head\.pooled\.(\d+)\.", r"decode_head.psp_modules.\1.1."),
    (r"^head\.pooled_fusion\.", "decode_head.bottleneck."),
    (r"^head\.laterals\.", "decode_head.lateral_convs."),
    (r"^head\.smoothing\.", "decode_head.fpn_convs."),
    (r"^head\.fusion\.", "decode_head.fpn_bottleneck."),
    (r"^head\.classifier\.", "decode_head.conv_seg."),
    (r"^auxiliary_head\.conv\.", "auxiliary_head.convs.0."),
    (r"^auxiliary_head\.classifier\.", "auxiliary_head.conv_seg."),
    (r"\.adn\.N\.", ".bn."),
]

_UNET_RENAMES = [
    (r"^head\.", "segmentation_head.0."),
    (r"^decoder\.blocks\.(\d)_(\d)\.", r"decoder.blocks.x_\1_\2."),
    (r"(^decoder\..*\.conv[12])\.conv\.", r"\1.0."),
    (r"(^decoder\..*\.conv[12])\.adn\.N\.", r"\1.1."),
]

_INDEX = "relative_position_index"
_TABLE = "relative_position_bias_table"

# What pre-training does not provide, in our names: of classifiers the head and the norm after pooling; of encoders that
# make a pyramid layer scales, relative positions, and the layers between tokens and maps.
_NEW_IN_CLASSIFIER = re.compile(r"^(head|feature_norm)\.")
_NEW_IN_PYRAMID = re.compile(r"_scale$|position_bias|^backbone\.(coarsest|scales)\.")

# What of a checkpoint, in its names or ours, is no part of an encoder: decoder, sum of all stages, last norm, head.
_BESIDE_ENCODER = (
    *("decoder", "mask_token", "prediction_head.", "fusions.", "stage1_output_decode.", "stage2_output_decode."),
    *("norm.", "encoder.norm.", "fc_norm.", "feature_norm.", "head."),
)


def _encoder_of(network: nn.Module) -> nn.Module:
    """The part of a network that pre-training provides: the whole of it, without heads, or its backbone."""
    return getattr(network, "backbone", network)


def _encoder_name(encoder: nn.Module, key: str) -> str:
    """Published name of a key of an encoder or a masked autoencoder."""
    conv = isinstance(encoder, (ConvMAE, ConvViTClassifier, ConvViTPyramid))
    return rename_by([*(_CONV_VIT_RENAMES if conv else []), *_ENCODER_RENAMES], key)


def published_names(network: nn.Module) -> NameTable:
    """Our keys of a network of this system to the published ones."""
    encoder = _encoder_of(network)
    backbone = "backbone" if isinstance(network, UPerNet) else "encoder"
    rules = _UPERNET_RENAMES if isinstance(network, UPerNet) else _UNET_RENAMES

    def rename(key: str) -> str:
        if encoder is network:
            return _encoder_name(encoder, key)
        if key.startswith("backbone."):
            return f"{backbone}.{_encoder_name(encoder, key.removeprefix('backbone.'))}"
        return rename_by(rules, key)

    return {key: [rename(key)] for key in network.state_dict()}


def build(network: str, **arguments: Any) -> nn.Module:
    """The network class named ``network`` with our constructor arguments.

    Raises:
        CheckpointError: for another name.
    """
    if network not in NETWORKS:
        raise CheckpointError(f"the thyroid system has the networks {sorted(NETWORKS)}, not {network!r}")
    unknown = [name for name in NOT_IN_SHAPES if name in arguments and arguments[name] is None]
    if unknown:
        raise CheckpointError(f"the checkpoint does not tell {', '.join(unknown)}: give it")
    return NETWORKS[network](**arguments)


def _fit_tables(
    state: dict[str, torch.Tensor], names: Mapping[str, str], network: nn.Module, grid: Sequence[int] | None = None
) -> None:
    """Moves position tables and relative position tables in ``state`` to the network's grid.

    Args:
        state: is changed.
        names: our keys to those of ``state``.
        network: gives the grid.
        grid: patches along every axis in the file; None for the network's own or a square.
    """
    encoder, own = _encoder_of(network), network.state_dict()
    grid = None if grid is None else tuple(grid)
    for key, name in names.items():
        if name not in state:
            continue
        if key.endswith("position_embedding"):
            prefix = encoder.decoder_prefix if key.startswith("decoder") else encoder.prefix
            state[name] = fit_positions(state[name], prefix, encoder.grid, grid)
        elif key.endswith("position_bias.table"):
            old = grid or (encoder.grid if len(state[name]) == len(own[key]) else _grid_of(state[name], encoder.prefix))
            state[name] = resample_bias_table(state[name], old, encoder.grid, bool(encoder.prefix))


def _grid_of(table: torch.Tensor, class_tokens: int) -> tuple[int, ...]:
    """Square grid of a relative position table.

    Raises:
        CheckpointError: if there is none.
    """
    return tuple((side + 1) // 2 for side in cube_of(len(table) - CLASS_TOKEN_ROWS * class_tokens, 2))


def _take_indices(state: dict[str, torch.Tensor], class_tokens: int, grid: Sequence[int]) -> None:
    """Removes the stored indices of relative positions from ``state``.

    Raises:
        CheckpointError: if one is not the index that we compute.
    """
    for name in [name for name in state if name.endswith(_INDEX)]:
        stored = state.pop(name)
        patches = len(stored) - class_tokens
        own = tuple(grid) if patches == torch.Size(grid).numel() else cube_of(patches, len(grid))
        if not torch.equal(stored.cpu().long(), relative_position_index(own, bool(class_tokens))):
            raise CheckpointError(f"{name} is not the index of relative positions on a grid {own}")


def read_state(content: Mapping[str, Any], network: nn.Module) -> dict[str, torch.Tensor]:
    """The published tensors that ``network`` uses, tables of positions moved to its grid.

    Raises:
        CheckpointError: if an index of relative positions in the file is another one than the network computes.
    """
    state, encoder = state_dict_of(content, _CONTAINERS), _encoder_of(network)
    _take_indices(state, encoder.prefix, encoder.grid)
    _fit_tables(state, {key: group[0] for key, group in published_names(network).items()}, network)
    return state


def export_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """The complete state dict that the published code would have written, indices of relative positions included."""
    state = published_state(network, published_names(network))
    for name in [name for name in state if name.endswith(_TABLE)]:
        bias = next(module for module in network.modules() if isinstance(module, RelativePositionBias))
        state[name.removesuffix(_TABLE) + _INDEX] = bias.index
    return state


def arguments_from_content(content: Mapping[str, Any], image_size: Sequence[int] | None = None) -> dict[str, Any]:
    """What `build` needs, from the shapes in a checkpoint and the options stored beside them.

    Args:
        content: a checkpoint's content or a bare state dict.
        image_size: (height, width); None for the square that the position table belongs to.

    Raises:
        CheckpointError: if the shapes do not tell the network.
    """
    options = vars(content["args"]) if isinstance(content.get("args"), argparse.Namespace) else {}
    return arguments_from_state(state_dict_of(content, _CONTAINERS), options, image_size)


def start_from_autoencoder(
    pretrained: Pretrained,
    network: nn.Module,
    head_std: float = 2e-5,
    pretrained_grid: Sequence[int] | None = None,
    copy_norm: bool = False,
) -> LoadReport:
    """Starts a classifier or a segmentation network from the encoder of a masked autoencoder.

    Position tables are moved to the network's grid. A classifier's head is drawn anew from a truncated normal
    distribution. Everything else that pre-training does not provide keeps its values: heads of segmentation networks,
    layer scales, relative positions, layers that make a pyramid.

    Args:
        pretrained: a checkpoint file or its content, published or of this project.
        network: a classifier or segmentation network; also with a state-space encoder, from a checkpoint of this
            project.
        head_std: standard deviation of the weights of a classifier's head.
        pretrained_grid: patches along every axis in pre-training; None for the network's own grid if the number of
            patches is the same, and a square otherwise.
        copy_norm: start the norm after mean pooling from the last norm of pre-training, which the published code does
            not.

    Returns:
        The report: ``ignored`` lists what the file holds for pre-training only, ``kept`` what of the network it has not
        filled.

    Raises:
        CheckpointError: if anything of the encoder is missing, left over, or of another shape. The network is then
            unchanged.

    Source: fine-tuning of Kang et al. 2023, arXiv:2306.08249. Deviation: the published backbone of the UPerNet draws
        linear layers and norms anew after loading; here they keep what was loaded.
    """
    if isinstance(network, VimClassifier):
        return brain.start_classifier(pretrained, network, head_std, pretrained_grid)
    state, encoder = pretrained_state(pretrained), _encoder_of(network)
    _take_indices(state, encoder.prefix, encoder.grid)
    published, inside = "pos_embed" in state, "" if encoder is network else "backbone."
    names = {}
    for key in network.state_dict():
        if key.startswith(inside):
            inner = key.removeprefix(inside)
            names[key] = _encoder_name(encoder, inner) if published else inner
    if copy_norm:
        last = "norm" if published else "encoder.norm"
        names |= {key: f"{last}.{key.split('.')[1]}" for key in names if key.startswith("feature_norm.")}
    new = _NEW_IN_CLASSIFIER if encoder is network else _NEW_IN_PYRAMID
    names = {key: name for key, name in names.items() if name in state or not new.search(key)}
    if encoder is network:
        names = {key: name for key, name in names.items() if not key.startswith("head.")}
    used = set(names.values())
    if used <= set(state):
        _fit_tables(state, names, network, pretrained_grid)
    beside = [name for name in state if name not in used and name.startswith(_BESIDE_ENCODER)]
    report = fill_encoder(network, state, {key: [name] for key, name in names.items()}, beside)
    if encoder is network:
        draw_head(network.head, head_std)
    return report


transfer_encoder = start_from_autoencoder
