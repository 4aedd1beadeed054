"""One number a token, put back at its patch in the image.

Source: Hu et al. 2024, arXiv:2409.07746 ("latent-to-spatial" maps: the largest feature of every token, each value
repeated over its patch). Letters: B batch, L tokens in raster order, C width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from custom_networks.layers.patch_tokens import unpatchify

REDUCTIONS = ("max", "mean", "l2", "absmax", "pca1")
_SMOOTH = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _first_component(tokens: torch.Tensor) -> torch.Tensor:
    """Score of the first principal component of each sample's own tokens, (B, L).

    The sign makes it correlate positively with the length of the tokens.
    """
    wide = tokens.double()
    centred = wide - wide.mean(dim=1, keepdim=True)
    axis = torch.linalg.eigh(centred.transpose(1, 2) @ centred).eigenvectors[..., -1:]
    scores = (centred @ axis).squeeze(-1)
    length = wide.norm(dim=-1)
    agreement = (scores * (length - length.mean(dim=1, keepdim=True))).sum(dim=1, keepdim=True)
    return (scores * torch.where(agreement < 0, -1.0, 1.0)).to(tokens.dtype)


def reduce_tokens(tokens: torch.Tensor, how: str = "max") -> torch.Tensor:
    """One number a token, (B, L, C) to (B, L).

    Args:
        tokens: (B, L, C).
        how: "max" (signed, published), "mean", "l2", "absmax", or "pca1": the score of the first principal component of
            the sample's tokens, with the sign that agrees with the length of the tokens.

    Raises:
        ValueError: for another reduction.
    """
    match how:
        case "max":
            return tokens.amax(dim=-1)
        case "mean":
            return tokens.mean(dim=-1)
        case "l2":
            return tokens.norm(dim=-1)
        case "absmax":
            return tokens.abs().amax(dim=-1)
        case "pca1":
            return _first_component(tokens)
    raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {how!r}")


def expand_to_image(
    values: torch.Tensor, grid: Sequence[int], patch_size: Sequence[int], mode: str = "nearest"
) -> torch.Tensor:
    """Token values (B, L) on the pixels of their patches, (B, 1, *spatial).

    Args:
        values: (B, L), tokens in raster order.
        grid: patches along every axis.
        patch_size: pixels of a patch along every axis.
        mode: "nearest" repeats a value over its patch (published); "linear" interpolates between patch centres.

    Raises:
        ValueError: for another mode, or values that do not fit the grid.
    """
    image = unpatchify(values.unsqueeze(-1), grid, (1,) * len(grid))
    size = [g * p for g, p in zip(grid, patch_size, strict=True)]
    if mode == "nearest":
        for axis, patch in enumerate(patch_size, start=2):
            image = image.repeat_interleave(patch, dim=axis)
        return image
    if mode == "linear":
        return F.interpolate(image, size=size, mode=_SMOOTH[len(grid)], align_corners=False)
    raise ValueError(f"mode must be nearest or linear, got {mode!r}")
