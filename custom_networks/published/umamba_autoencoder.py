"""Files of U-Mamba2's disruptive autoencoder, whose network has the segmentation network's layers.

Source: the pre-training of U-Mamba2, arXiv 2509.12069. A file holds ``model``, ``optimizer``, ``lr_scheduler``,
``max_accuracy`` and ``epoch``; keys of ``model`` begin with ``encoder.`` once more than those of the network. It holds
no plan, so the network is told from the shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from custom_networks.published.reading import CheckpointError, state_dict_of

_PREFIX = "encoder."


def is_autoencoder(state: Mapping[str, Any]) -> bool:
    """Whether names are those of the autoencoder: all begin with ``encoder.``, those of the encoder twice."""
    return all(name.startswith(_PREFIX) for name in state) and any(name.startswith(2 * _PREFIX) for name in state)


def without_autoencoder_prefix(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict under the names of the segmentation network; another one as it is."""
    cut = len(_PREFIX) if is_autoencoder(state) else 0
    return {name[cut:]: tensor for name, tensor in state.items()}


def arguments_from_shapes(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Published class name and our constructor arguments of a residual-encoder U-Net without clicks.

    Args:
        state: published names to tensors.

    Raises:
        CheckpointError: if it is no such network, or one with clicks, whose patch size the shapes do not tell.
    """
    stages = _numbered(state, r"encoder\.stages\.(\d+)\.blocks\.0\.conv1\.conv\.weight")
    upsample = _numbered(state, r"decoder\.transpconvs\.(\d+)\.weight")
    stem, head = state.get("encoder.stem.convs.0.conv.weight"), state.get("decoder.seg_layers.0.weight")
    if stem is None or head is None or not stages or len(upsample) != len(stages) - 1:
        raise CheckpointError("the checkpoint carries no plan, and its tensors are not those of a residual U-Net")
    axes = stem.ndim - 2
    return {
        "network": _class_name(state),
        "spatial_dims": axes,
        "in_channels": stem.shape[1],
        "out_channels": head.shape[0],
        "features_per_stage": [weight.shape[0] for weight in stages],
        "kernel_sizes": [list(weight.shape[2:]) for weight in stages],
        "strides": [[1] * axes, *(list(weight.shape[2:]) for weight in reversed(upsample))],
        "n_blocks_per_stage": [
            len(_numbered(state, rf"encoder\.stages\.{i}\.blocks\.(\d+)\.conv1\.conv\.weight"))
            for i in range(len(stages))
        ],
        "n_conv_per_stage_decoder": [
            len(_numbered(state, rf"decoder\.stages\.{j}\.convs\.(\d+)\.conv\.weight")) for j in range(len(upsample))
        ],
    }


def arguments_from_content(content: Mapping[str, Any], _image_size: Any = None) -> dict[str, Any]:
    """The same for the content of a file."""
    return arguments_from_shapes(read_state(content))


def read_state(content: Mapping[str, Any], _network: Any = None) -> dict[str, torch.Tensor]:
    """The state dict of a checkpoint of U-Mamba2, an autoencoder's under the names of the segmentation network."""
    return without_autoencoder_prefix(state_dict_of(content, ("network_weights", "state_dict", "model")))


def _class_name(state: Mapping[str, torch.Tensor]) -> str:
    names = " ".join(state)
    if "mamba_layer." not in names:
        return "ResidualEncoderUNet"
    if "point_encoder." in names:
        raise CheckpointError("the checkpoint carries no plan: give `network`, `patch_size` and further arguments")
    if state["mamba_layer.mamba.A_log"].ndim == 2:
        return "UMambaBot"
    return "UMambaBot2PE" if "position_encoder." in names else "UMambaBot2"


def _numbered(state: Mapping[str, torch.Tensor], pattern: str) -> list[torch.Tensor]:
    """Tensors whose names match, in the order of the number that the pattern catches."""
    found = {int(match[1]): tensor for name, tensor in state.items() if (match := re.fullmatch(pattern, name))}
    return [found[number] for number in sorted(found)]
