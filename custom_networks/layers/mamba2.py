"""Mamba-2 mixer.

Source: Dao and Gu 2024, "Transformers are SSMs", section 7.1 and the published simple module. Letters: B batch,
L length, C model width, D = expand * C channels, H heads, P head width, G groups, N state.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from custom_networks.layers.mamba import inverse_softplus_of_time_steps
from custom_networks.ops import causal_conv1d, ssd_scan


def largest_head_width(channels: int, preferred: int = 80) -> int:
    """``preferred`` if it divides ``channels``, otherwise the largest divisor below it."""
    return next(width for width in range(min(preferred, channels), 0, -1) if channels % width == 0)


class GatedRMSNorm(nn.Module):
    """Root-mean-square normalization of ``x * silu(gate)`` over the last dimension, gate before the norm."""

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """Normalizes (..., channels) in float32 or wider; the output has the dtype of ``x``."""
        wide = torch.promote_types(x.dtype, torch.float32)
        gated = x.to(wide) * F.silu(gate.to(wide))
        scale = torch.rsqrt(gated.square().mean(-1, keepdim=True) + self.eps)
        return (gated * scale * self.weight.to(wide)).to(x.dtype)


class Mamba2(nn.Module):
    """State-space duality mixer of a sequence, (B, L, C) to (B, L, C), causal.

    Args:
        d_model: width C of the tokens.
        d_state: state size N.
        d_conv: width of the causal depthwise convolution over x, B and C together.
        expand: D = expand * C.
        headdim: head width P; must divide D. None picks the largest divisor of D up to 80.
        ngroups: groups G that share B and C.
        chunk_size: length of the chunks of the algorithm; the result does not depend on it.
        reverse: scan from the last token to the first.

    Raises:
        ValueError: if ``headdim`` does not divide ``expand * d_model``.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        d_conv: int = 4,
        expand: int = 2,
        headdim: int | None = 64,
        ngroups: int = 1,
        chunk_size: int = 64,
        reverse: bool = False,
    ):
        super().__init__()
        self.d_inner = expand * d_model
        self.headdim = largest_head_width(self.d_inner) if headdim is None else headdim
        if self.d_inner % self.headdim:
            raise ValueError(f"headdim {headdim} does not divide expand * d_model = {self.d_inner}")
        self.heads = self.d_inner // self.headdim
        self.d_state, self.ngroups, self.chunk_size, self.reverse = d_state, ngroups, chunk_size, reverse
        conv_channels = self.d_inner + 2 * ngroups * d_state
        self.in_proj = nn.Linear(d_model, self.d_inner + conv_channels + self.heads, bias=False)
        self.conv1d = nn.Conv1d(conv_channels, conv_channels, d_conv, groups=conv_channels, padding=d_conv - 1)
        self.dt_bias = nn.Parameter(inverse_softplus_of_time_steps(self.heads))
        self.A_log = nn.Parameter(torch.log(torch.empty(self.heads).uniform_(1, 16)))
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = GatedRMSNorm(self.d_inner)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mixes tokens (B, L, C) along L; the state is float32 or wider whatever the input dtype."""
        bc = self.ngroups * self.d_state
        z, xbc, dt = self.in_proj(tokens).split([self.d_inner, self.d_inner + 2 * bc, self.heads], dim=-1)
        xbc = causal_conv1d(
            xbc.transpose(1, 2), self.conv1d.weight.squeeze(1), self.conv1d.bias, "silu", reverse=self.reverse
        ).transpose(1, 2)
        x, B, C = xbc.split([self.d_inner, bc, bc], dim=-1)
        y = ssd_scan(
            x.unflatten(-1, (self.heads, self.headdim)),
            dt,
            -torch.exp(self.A_log.float()),
            B.unflatten(-1, (self.ngroups, self.d_state)),
            C.unflatten(-1, (self.ngroups, self.d_state)),
            self.chunk_size,
            self.D.float(),
            dt_bias=self.dt_bias.float(),
            dt_softplus=True,
            reverse=self.reverse,
        )
        return self.out_proj(self.norm(y.flatten(-2), z))
