"""Sequence mixers on image grids: tokens in, LayerNorm, Mamba, back to the grid."""

from __future__ import annotations

import torch
from torch import nn

from custom_networks.layers.mamba import Mamba
from custom_networks.layers.mamba2 import Mamba2

MIXERS = {"mamba": Mamba, "mamba2": Mamba2}

# Published values. U-Mamba2 fixes the head width at 80; where that does not divide, its largest divisor is taken.
DEFAULT_OPTIONS = {
    "mamba": {"d_state": 16, "d_conv": 4, "expand": 2},
    "mamba2": {"d_state": 32, "d_conv": 4, "expand": 2, "headdim": None},
}


class GridMixer(nn.Module):
    """Mamba layer of U-Mamba on a feature map (B, channels, *spatial), shape preserved.

    With ``tokens="patch"`` the grid positions are the sequence (last axis fastest) and the channels their width; with
    ``tokens="channel"`` the channels are the sequence and the grid positions their width, which fixes the grid size.
    The layer runs in float32 also under autocast, so that low-precision states cannot overflow.

    Args:
        dim: width of a token: channels for patch tokens, number of grid positions for channel tokens.
        mixer: "mamba" or "mamba2".
        tokens: "patch" or "channel".
        residual: add the input to the output. The published layer does not, unlike the drawing in the paper.
        options: further arguments of the mixer, such as ``d_state``.

    Raises:
        ValueError: for an unknown mixer or token layout, or a grid of another size than channel tokens were built for.

    Source: Ma et al. 2024, "U-Mamba", section 2 and its published code. Deviation: float16 and bfloat16 inputs are both
    computed in float32 (the published code differs from file to file).
    """

    def __init__(
        self,
        dim: int,
        mixer: str = "mamba",
        tokens: str = "patch",
        residual: bool = False,
        options: dict | None = None,
    ):
        super().__init__()
        if mixer not in MIXERS:
            raise ValueError(f"mixer must be one of {sorted(MIXERS)}, got {mixer!r}")
        if tokens not in ("patch", "channel"):
            raise ValueError(f"tokens must be 'patch' or 'channel', got {tokens!r}")
        self.dim, self.tokens, self.residual = dim, tokens, residual
        self.norm = nn.LayerNorm(dim)
        self.mixer = MIXERS[mixer](dim, **DEFAULT_OPTIONS[mixer] | (options or {}))

    def to_tokens(self, x: torch.Tensor) -> torch.Tensor:
        """Grid (B, channels, *spatial) to tokens (B, L, dim)."""
        tokens = x.flatten(2)
        if self.tokens == "patch":
            return tokens.transpose(1, 2)
        if tokens.shape[-1] != self.dim:
            raise ValueError(
                f"channel tokens were built for {self.dim} grid positions, got {tokens.shape[-1]} "
                f"(grid {tuple(x.shape[2:])}); this network runs on its planned patch size only"
            )
        return tokens

    def mix(self, tokens: torch.Tensor) -> torch.Tensor:
        """Normalizes and mixes tokens (B, L, dim)."""
        return self.mixer(self.norm(tokens))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mixes a feature map (B, channels, *spatial)."""
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            y = self.mix(self.to_tokens(wide))
            y = y.transpose(1, 2) if self.tokens == "patch" else y
            y = y.reshape(x.shape)
            return (y + wide if self.residual else y).to(x.dtype)
