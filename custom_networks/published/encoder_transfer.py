"""Hand-over of a pre-trained part of a network to another network, with a strict report.

What the systems share; each has its own function on top, which knows its names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from os import PathLike
from typing import Any

import torch
from torch import nn

from custom_networks.published.key_map import LoadReport, NameTable, convert
from custom_networks.published.reading import CheckpointError, read_checkpoint, state_dict_of

Pretrained = str | PathLike[str] | Mapping[str, Any]
"""A checkpoint file, or its content."""

_CONTAINERS = ("model", "network", "state_dict", "module")


def content_of(pretrained: Pretrained) -> Mapping[str, Any]:
    """The content of a checkpoint file, which is read safely, or the given content itself."""
    return pretrained if isinstance(pretrained, Mapping) else read_checkpoint(pretrained)


def pretrained_state(pretrained: Pretrained) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint of the masked autoencoders, published or of this project."""
    content = content_of(pretrained)
    objects = content.get("objects")
    return state_dict_of(objects if isinstance(objects, Mapping) else content, _CONTAINERS)


def fill_encoder(
    network: nn.Module,
    state: Mapping[str, torch.Tensor],
    names: NameTable,
    ignored: Collection[str],
    strict: bool = True,
) -> LoadReport:
    """Fills a part of a network, and leaves the rest as it is.

    Args:
        network: is changed only if everything fits.
        state: tensors of the checkpoint.
        names: our keys of the part that is to be filled, to their names in the checkpoint.
        ignored: names of the checkpoint that are left out on purpose.
        strict: whether the checkpoint has to hold every tensor of the part.

    Returns:
        The report; ``kept`` lists all keys of the network that were not filled.

    Raises:
        CheckpointError: if a tensor is of another shape, a name is neither known nor ignored, nothing fits, or, if
            ``strict``, a tensor of the part is missing.
    """
    ignored = set(ignored)
    ours, report = convert({name: value for name, value in state.items() if name not in ignored}, names, network)
    report.ignored = [name for name in state if name in ignored]
    report.kept = [key for key in network.state_dict() if key not in ours]
    if report.mismatched or report.unexpected or not ours or (strict and report.missing):
        raise CheckpointError(f"the checkpoint's encoder does not fit {type(network).__name__}: {report}")
    network.load_state_dict(ours, strict=False)
    return report


def draw_head(head: nn.Linear, std: float) -> None:
    """Starts a classifier's head anew: weights from a normal distribution truncated at two deviations, zero bias.

    Source: the fine-tuning of He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners".
    """
    nn.init.trunc_normal_(head.weight, std=std, a=-2 * std, b=2 * std)
    nn.init.zeros_(head.bias)
