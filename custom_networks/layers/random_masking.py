"""Random masking of patch tokens that can be undone.

Source: He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", section 3. Letters: B batch, L patches,
K kept patches, C width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

ORDERS = ("shuffle", "raster")


class PatchMask(NamedTuple):
    """Which patches are hidden, and how to put the kept ones back.

    Attributes:
        keep: indices of the kept patches in the order in which they are fed, (B, K) int64.
        restore: place of every patch in the sequence "kept patches, then hidden ones", (B, L) int64.
        hidden: True for hidden patches, in raster order, (B, L).
    """

    keep: torch.Tensor
    restore: torch.Tensor
    hidden: torch.Tensor


def random_mask(noise: torch.Tensor, mask_ratio: float, order: str = "shuffle") -> PatchMask:
    """Hides, for each sample, the patches of the largest noise values.

    Args:
        noise: (B, L), any values.
        mask_ratio: hidden part in [0, 1); ``int(L * (1 - mask_ratio))`` patches are kept.
        order: order of the kept patches: "shuffle", by noise as published, or "raster", as in the image.

    Raises:
        ValueError: for an unknown order, or a ratio that leaves no patch.
    """
    if order not in ORDERS:
        raise ValueError(f"token order must be one of {', '.join(ORDERS)}, got {order!r}")
    kept = int(noise.shape[1] * (1 - mask_ratio))
    if not 0 < kept <= noise.shape[1]:
        raise ValueError(f"mask ratio {mask_ratio} keeps {kept} of {noise.shape[1]} patches")
    shuffled = noise.argsort(dim=1)
    if order == "raster":
        shuffled = torch.cat([shuffled[:, :kept].sort(dim=1).values, shuffled[:, kept:]], dim=1)
    restore = shuffled.argsort(dim=1)
    return PatchMask(shuffled[:, :kept], restore, restore >= kept)


def take_tokens(tokens: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Tokens (B, L, C) at ``index`` (B, K), as (B, K, C)."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def restore_tokens(kept: torch.Tensor, filler: torch.Tensor, restore: torch.Tensor) -> torch.Tensor:
    """Puts kept tokens (B, K, C) back into their places of the L patches, and ``filler`` (1, 1, C) everywhere else.

    Returns:
        (B, L, C) in raster order.
    """
    hidden = filler.to(kept.dtype).expand(kept.shape[0], restore.shape[1] - kept.shape[1], -1)
    return take_tokens(torch.cat([kept, hidden], dim=1), restore)
