"""Hand-over of a pre-trained encoder to a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import torch
from torch import nn

from custom_networks.nets.vit_classifier import ViTClassifier
from custom_networks.published.brain import fit_positions, published_names
from custom_networks.published.key_map import LoadReport, convert
from custom_networks.published.reading import CheckpointError, read_checkpoint, state_dict_of

_CONTAINERS = ("model", "network", "state_dict")

# Beginnings of the names of what only pre-training needs, ours and published ones.
_PRETRAINING_ONLY = (
    *("decoder", "mask_token", "prediction_head."),
    *("rope.", "decoder_rope."),
)


def transfer_encoder(
    pretrained: str | PathLike[str] | Mapping[str, Any],
    network: nn.Module,
    head_std: float = 2e-5,
    pretrained_grid: Sequence[int] | None = None,
) -> LoadReport:
    """Fills a classifier with the encoder of a masked autoencoder, and draws its head anew.

    Everything up to the last norm is taken over, the position table moved to the classifier's grid. The head gets
    weights from a truncated normal distribution and a bias of zero.

    Args:
        pretrained: a checkpoint file, its content, or a state dict, with our names or the published ones.
        network: a :class:`~custom_networks.nets.vim_classifier.VimClassifier` or
            :class:`~custom_networks.nets.vit_classifier.ViTClassifier`.
        head_std: standard deviation of the head's weights.
        pretrained_grid: patches along every axis in pre-training; None for the classifier's own grid if the number of
            patches is the same, and a cube otherwise.

    Returns:
        The report: ``missing`` are the head's keys (and those of the norm after mean pooling of vision transformers),
        ``unexpected`` those that only pre-training needs, by the names in the file.

    Raises:
        CheckpointError: if anything else is missing, left over, or of another shape. The network is then unchanged.

    Source: the fine-tuning of Hu et al. 2024, arXiv:2409.07746, which loads without checking names.
    """
    content = dict(pretrained) if isinstance(pretrained, Mapping) else read_checkpoint(pretrained)
    state = state_dict_of(content, _CONTAINERS)
    state = {key: value for key, value in state.items() if not key.startswith(("head.", "feature_norm.", "fc_norm."))}
    names = {key: [key] for key in network.state_dict()}
    if "pos_embed" in state:
        names = published_names(network)
    positions = names.get("position_embedding", [None])[0]
    class_tokens = [names[key][0] for key in ("class_token", "tail_token") if key in names]
    if positions in state and all(name in state for name in class_tokens):
        grid = tuple(pretrained_grid) if pretrained_grid else None
        state[positions] = fit_positions(state[positions], network.prefix, network.grid, grid)

    new = [key for key in names if key.startswith(("head.", "feature_norm."))]
    ours, report = convert(state, names, network)
    allowed = _PRETRAINING_ONLY
    if network.class_token is None:
        allowed += ("cls_token", "class_token")
    if isinstance(network, ViTClassifier) and network.pooling == "mean":
        allowed += ("norm.", "encoder.norm.")
    surplus = [key for key in report.unexpected if not key.startswith(allowed)]
    if report.mismatched or surplus or set(report.missing) != set(new):
        wrong = LoadReport(
            report.matched, [key for key in report.missing if key not in new], surplus, report.mismatched
        )
        raise CheckpointError(f"pre-trained encoder does not fit {type(network).__name__}: {wrong}")
    network.load_state_dict(ours, strict=False)
    nn.init.trunc_normal_(network.head.weight, std=head_std, a=-2 * head_std, b=2 * head_std)
    with torch.no_grad():
        network.head.bias.zero_()
    return report
