"""Published weights of the 3D Mamba MAE and its vision-transformer baselines.

Source: checkpoints of WinstonHuTiger/mamba_mae (arXiv:2409.07746). The authors' weights are under CC BY-NC 4.0 and stay
so after conversion. Vim checkpoints, with ``layers`` in place of ``blocks``, are read too.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from custom_networks.layers.rotary import grid_rotation, rotary_frequencies
from custom_networks.nets.vim_classifier import VimClassifier
from custom_networks.nets.vim_mae import VimMAE
from custom_networks.nets.vit_classifier import ViTClassifier
from custom_networks.nets.vit_mae import ViTMAE
from custom_networks.published.brain_arguments import arguments_from_state
from custom_networks.published.encoder_transfer import Pretrained, draw_head, fill_encoder, pretrained_state
from custom_networks.published.key_map import LoadReport, NameTable, published_state
from custom_networks.published.position_tables import fit_positions
from custom_networks.published.reading import CheckpointError, state_dict_of
from custom_networks.published.umamba import rename_by
from custom_networks.published.vit_names import TOKEN_RENAMES, VIT_RENAMES

NETWORKS = {"VimMAE": VimMAE, "VimClassifier": VimClassifier, "ViTMAE": ViTMAE, "ViTClassifier": ViTClassifier}

_VIM_RENAMES = [
    *TOKEN_RENAMES,
    (r"^tail_token$", "cls_token_tail"),
    (r"^encoder\.norm\.", "norm_f."),
    (r"^decoder\.norm\.", "decoder_norm_f."),
    (r"\.mixer\.A_log_reverse$", ".mixer.A_b_log"),
    (r"\.mixer\.D_reverse$", ".mixer.D_b"),
    (r"\.mixer\.scale$", ".mixer.gamma"),
    (r"\.mixer\.(\w+)_reverse\.", r".mixer.\1_b."),
]

# What of a classifier pre-training does not provide, and what of a checkpoint is no part of the encoder: beginnings of
# our names and of published ones.
_NEW_IN_CLASSIFIER = ("head.", "feature_norm.")
_BESIDE_ENCODER = ("decoder", "mask_token", "prediction_head.", "rope.", "head.", "feature_norm.", "fc_norm.")

_POSITIONS = ("pos_embed", "decoder_pos_embed")


def published_names(network: nn.Module) -> NameTable:
    """Our keys of a network of this system to the published ones."""
    rules = VIT_RENAMES if isinstance(network, (ViTMAE, ViTClassifier)) else _VIM_RENAMES
    names = {key: [rename_by(rules, key)] for key in network.state_dict()}
    if "tail_token" in names:
        names["class_token"] = ["cls_token_head"]
    return names


def build(network: str, **arguments: Any) -> nn.Module:
    """The network class named ``network`` with our constructor arguments.

    Raises:
        CheckpointError: for another name.
    """
    if network not in NETWORKS:
        raise CheckpointError(f"the brain system has the networks {sorted(NETWORKS)}, not {network!r}")
    return NETWORKS[network](**arguments)


def _rotary_tables(network: nn.Module) -> dict[str, torch.Tensor]:
    """Frequencies, or cosines and sines, that published networks store and ours computes."""
    projection = network.patch_embedding.projection
    width, device = projection.out_channels, projection.weight.device
    match getattr(network, "rotary", "none"):
        case "sequence_half":
            widths = {"rope": width}
            if isinstance(network, VimMAE):
                widths["decoder_rope"] = network.decoder_embedding.out_features
            return {f"{name}.freqs": rotary_frequencies(w // 4, device).float() for name, w in widths.items()}
        case "axial_two_of_three":
            tables = grid_rotation(network.rotary, network.grid, width, device)
            names = ("rope.freqs_cos", "rope.freqs_sin")
            return {name: table.repeat_interleave(2, dim=1) for name, table in zip(names, tables, strict=True)}
    return {}


def unused_entries(network: nn.Module) -> dict[str, torch.Tensor]:
    """Published entries that our network has no need for, with the values that they must have (zeros: any values).

    These are rotary frequencies and tables, and the class token of autoencoders that do not use it.
    """
    entries = _rotary_tables(network)
    if isinstance(network, VimMAE) and network.class_token is None:
        weight = network.patch_embedding.projection.weight
        entries["cls_token"] = weight.new_zeros(1, 1, weight.shape[0])
    return entries


def export_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """The complete state dict that the published code would have written."""
    return published_state(network, published_names(network)) | unused_entries(network)


def _tidy(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    state = state_dict_of(content, ("model",))
    return {re.sub(r"^layers\.", "blocks.", key): value for key, value in state.items()}


def read_state(content: Mapping[str, Any], network: nn.Module) -> dict[str, torch.Tensor]:
    """The published tensors that ``network`` uses, position tables moved to its grid.

    Raises:
        CheckpointError: if a rotary table in the file is another one than the network computes.
    """
    state = _tidy(content)
    for name in _POSITIONS:
        if name in state:
            prefix = network.decoder_prefix if name == "decoder_pos_embed" else network.prefix
            state[name] = fit_positions(state[name], prefix, network.grid)
    for name, expected in unused_entries(network).items():
        stored = state.pop(name, None)
        if stored is None or name == "cls_token":
            continue
        if stored.shape == expected.shape and not torch.allclose(stored, expected.to(stored), rtol=1e-4, atol=1e-5):
            raise CheckpointError(f"{name} is not the table of rotary {network.rotary!r} that this network computes")
    return state


def arguments_from_content(content: Mapping[str, Any], image_size: Sequence[int] | None = None) -> dict[str, Any]:
    """What `build` needs, from the shapes in a checkpoint and the options stored beside them.

    Args:
        content: a checkpoint's content or a bare state dict.
        image_size: voxels along every axis; None for the cube that the position table belongs to.

    Raises:
        CheckpointError: if the shapes do not tell the network.
    """
    options = vars(content["args"]) if isinstance(content.get("args"), argparse.Namespace) else {}
    return arguments_from_state(_tidy(content), options, image_size)


def start_classifier(
    pretrained: Pretrained,
    network: nn.Module,
    head_std: float = 2e-5,
    pretrained_grid: Sequence[int] | None = None,
) -> LoadReport:
    """Starts a classifier from the encoder of a masked autoencoder, and draws its head anew.

    Everything up to the last norm is taken over, the position table moved to the classifier's grid. The head gets
    weights from a truncated normal distribution and a bias of zero.

    Args:
        pretrained: a checkpoint file or its content, published or of this project.
        network: a :class:`~custom_networks.nets.vim_classifier.VimClassifier` or
            :class:`~custom_networks.nets.vit_classifier.ViTClassifier`.
        head_std: standard deviation of the head's weights.
        pretrained_grid: patches along every axis in pre-training; None for the classifier's own grid if the number of
            patches is the same, and a cube otherwise.

    Returns:
        The report: ``ignored`` lists what the file holds for pre-training only, ``kept`` what of the network it has not
        filled: the head, and the norm after the mean pooling of vision transformers.

    Raises:
        CheckpointError: if anything else is missing, left over, or of another shape. The network is then unchanged.

    Source: the fine-tuning of Hu et al. 2024, arXiv:2409.07746, which loads without checking names.
    """
    state = pretrained_state(pretrained)
    names = published_names(network) if "pos_embed" in state else {key: [key] for key in network.state_dict()}
    names = {key: group for key, group in names.items() if not key.startswith(_NEW_IN_CLASSIFIER)}
    class_tokens = [names[key][0] for key in ("class_token", "tail_token") if key in names]
    positions = names.get("position_embedding", [""])[0]
    if positions in state and all(name in state for name in class_tokens):
        grid = tuple(pretrained_grid) if pretrained_grid else None
        state[positions] = fit_positions(state[positions], network.prefix, network.grid, grid)

    beside = _BESIDE_ENCODER
    if network.class_token is None:
        beside += ("cls_token", "class_token")
    if isinstance(network, ViTClassifier) and network.pooling == "mean":
        beside += ("norm.", "encoder.norm.")
    report = fill_encoder(network, state, names, [name for name in state if name.startswith(beside)])
    draw_head(network.head, head_std)
    return report


transfer_encoder = start_classifier
