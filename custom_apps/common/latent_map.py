"""Maps of where a network responds: one number a patch, put back at its place in the volume."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import nn

from custom_networks.layers.token_map import expand_to_image, reduce_tokens

RESCALINGS = ("none", "minmax", "percentile")
PERCENTILES = (1.0, 99.0)


def latent_map(
    network: nn.Module,
    image: torch.Tensor,
    source: str | None = None,
    reduce: str = "max",
    blocks: int | None = None,
    expand: str = "nearest",
    rescale: str = "none",
    mask_ratio: float = 0.0,
    noise: torch.Tensor | None = None,
    fill: float = math.nan,
) -> torch.Tensor:
    """Runs a network and gives its map, one value a voxel.

    The network is in evaluation mode meanwhile, without gradients, and afterwards as before.

    Args:
        network: classifier or masked autoencoder with ``token_features``, ``grid`` and ``patch_size``, or one whose
            ``encoder`` or ``backbone`` has them.
        image: (B, C, *spatial), normalized as for training.
        source: representation of the tokens, as the network's ``token_features`` names them; None for the published
            one: output of the last mixer of a classifier, normalized output of an autoencoder's encoder.
        reduce: from the features of a token to a number: ``max`` (published), ``mean``, ``l2``, ``absmax`` or ``pca1``.
        blocks: number of blocks to run; None for all.
        expand: ``nearest`` repeats a number over its patch (published), ``linear`` interpolates between patch centers.
        rescale: ``none`` (published), ``minmax``, or ``percentile``: the 1st and 99th become 0 and 1. Of each sample.
        mask_ratio: hidden part of the patches, autoencoders only; 0 shows all, 0.75 is published.
        noise: (B, L), hides the patches of the largest values; None draws from the global generator.
        fill: value of hidden patches; published is 0, which cannot be told from a response of 0.

    Returns:
        (B, 1, *spatial) float32.

    Raises:
        ValueError: for an unknown option, or a network without tokens.

    Source: 3D Mamba MAE, Hu et al. 2024 ("latent-to-spatial" maps). Published maps were made in training mode, where
    stochastic depth leaves out layers at random; these are not.
    """
    if rescale not in RESCALINGS:
        raise ValueError(f"rescale must be one of {', '.join(RESCALINGS)}, got {rescale!r}")
    options: dict[str, Any] = {"blocks": blocks} if source is None else {"blocks": blocks, "source": source}
    was_training, source_of = network.training, token_encoder(network)
    network.eval()
    try:
        with torch.no_grad():
            if _is_autoencoder(source_of):
                tokens, mask = source_of.token_features(image, noise=noise, mask_ratio=mask_ratio, **options)
                hidden = mask.hidden
            else:
                tokens = source_of.token_features(image, **options)
                hidden = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
            values = reduced(tokens.float(), hidden, reduce)
    finally:
        network.train(was_training)
    values = _rescaled(values, rescale).masked_fill(hidden, fill)
    return expand_to_image(values, source_of.grid, source_of.patch_size, expand)


def token_encoder(network: nn.Module) -> nn.Module:
    """The part of a network that gives features of its tokens: itself, its ``encoder`` or its ``backbone``.

    Raises:
        ValueError: if none does.
    """
    for part in (network, getattr(network, "encoder", None), getattr(network, "backbone", None)):
        if hasattr(part, "token_features"):
            return part
    raise ValueError(f"{type(network).__name__} has no tokens; a map by gradients works for every network")


def _is_autoencoder(network: nn.Module) -> bool:
    return "mask_ratio" in inspect.signature(network.token_features).parameters


def reduced(tokens: torch.Tensor, hidden: torch.Tensor, how: str) -> torch.Tensor:
    """One number a token, (B, L, C) to (B, L); NaN where ``hidden`` (B, L), which no other number depends on."""
    values = tokens.new_full(tokens.shape[:2], math.nan)
    for sample, shown in enumerate(~hidden):
        values[sample, shown] = reduce_tokens(tokens[sample, shown][None], how)[0]
    return values


def _rescaled(values: torch.Tensor, how: str) -> torch.Tensor:
    """(B, L) from 0 to 1, by each sample's own range."""
    if how == "none":
        return values
    cuts = (0.0, 100.0) if how == "minmax" else PERCENTILES
    low, high = (torch.nanquantile(values, cut / 100, dim=1, keepdim=True) for cut in cuts)
    scaled = (values - low) / (high - low).clamp_min(torch.finfo(values.dtype).tiny)
    return scaled.clamp(0, 1)
