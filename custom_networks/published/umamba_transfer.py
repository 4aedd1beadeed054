"""Start of a U-Mamba or U-Mamba2 network from the weights of another training.

Source: how nnU-Net and U-Mamba2 (arXiv 2509.12069) load pre-trained weights: every tensor of the new network must be
there in its shape, except the segmentation heads and what belongs to clicks and position codes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from custom_networks.nets.umamba2 import UMamba2
from custom_networks.published import umamba, umamba2
from custom_networks.published.key_map import LoadReport, NameTable, convert
from custom_networks.published.reading import CheckpointError, state_dict_of
from custom_networks.published.umamba_autoencoder import without_autoencoder_prefix

HEADS = ("if_fitting", "fresh", "required")

_CONTAINERS = ("network", "network_weights", "state_dict", "model")
_HEAD = re.compile(r"decoder\.(heads|seg_layers)\.")
# Ours and the published names of what belongs to clicks and position codes.
_OPTIONAL = re.compile(
    r"bottleneck\.(click_encoder|cross_attention|position_code)\."
    r"|mamba_layer\.(point_encoder|cross_attention|position_encoder)\."
)


def transfer(content: Mapping[str, Any], network: nn.Module, heads: str = "if_fitting") -> LoadReport:
    """Fills a network from a checkpoint of another training, of whatever task.

    Args:
        content: weights or training state of ours, a checkpoint of nnU-Net's trainers, or a U-Mamba2 autoencoder's.
        network: a U-Mamba or U-Mamba2 network; is changed only if everything fits.
        heads: the segmentation heads are taken ``if_fitting``, that is if all have the shape of the network's, else
            none; never (``fresh``); or they have to fit (``required``), as when a finished training is continued.

    Returns:
        The report; ``kept`` lists the keys of the network that keep their fresh values, ``ignored`` the tensors of the
        checkpoint that it has no use for.

    Raises:
        CheckpointError: with the report, if anything but heads, clicks and position codes is missing, of another shape
            or unknown.
        ValueError: for another value of ``heads``.
    """
    if heads not in HEADS:
        raise ValueError(f"heads must be one of {', '.join(HEADS)}, got {heads!r}")
    objects = content.get("objects")
    state = state_dict_of(objects if isinstance(objects, Mapping) else content, _CONTAINERS)
    state = without_autoencoder_prefix(state)
    ours, report = convert(state, _names(network, state), network)

    of_heads = [key for key in network.state_dict() if _HEAD.match(key)]
    unfit = [key for key in of_heads if key not in ours]
    if heads == "fresh" or (heads == "if_fitting" and unfit):
        for key in of_heads:
            ours.pop(key, None)
            report.matched.pop(key, None)
            report.mismatched.pop(key, None)
        report.ignored += [name for name in state if _HEAD.match(name)]
    spared = _OPTIONAL if heads == "required" else re.compile(f"{_OPTIONAL.pattern}|{_HEAD.pattern}")
    report.missing = [key for key in report.missing if not spared.match(key)]
    report.mismatched = {key: why for key, why in report.mismatched.items() if not _OPTIONAL.match(key)}
    report.ignored += [name for name in report.unexpected if _OPTIONAL.search(name)]
    report.unexpected = [name for name in report.unexpected if not _OPTIONAL.search(name)]
    report.kept = [key for key in network.state_dict() if key not in ours and key not in report.missing]
    if not report.complete:
        raise CheckpointError(f"the weights do not fit {type(network).__name__}: {report}")
    network.load_state_dict(ours, strict=False)
    return report


def _names(network: nn.Module, state: Mapping[str, torch.Tensor]) -> NameTable:
    """Our own names or the published ones, whichever the checkpoint speaks."""
    own = {key: [key] for key in network.state_dict()}
    published = (umamba2 if isinstance(network, UMamba2) else umamba).published_names(network)
    known = [sum(name in state for group in table.values() for name in group[:1]) for table in (own, published)]
    return own if known[0] >= known[1] else published
