"""Mamba-2 mixer.

Source: Dao and Gu 2024, "Transformers are SSMs", section 7.1 and the published module. Letters: B batch, L length,
C model width, E = expand * C channels, D of them in the scan, H heads, P head width, G groups, N state.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from custom_networks.layers.gated_norm import GatedRMSNorm
from custom_networks.layers.mamba import inverse_softplus_of_time_steps, wide
from custom_networks.ops import causal_conv1d, ssd_scan


def largest_head_width(channels: int, preferred: int = 80) -> int:
    """``preferred`` if it divides ``channels``, otherwise the largest divisor below it."""
    return next(width for width in range(min(preferred, channels), 0, -1) if channels % width == 0)


class Mamba2(nn.Module):
    """State-space duality mixer of a sequence, (B, L, C) to (B, L, C), causal.

    Args:
        d_model: width C of the tokens.
        d_state: state size N.
        d_conv: width of the causal depthwise convolution over x, B and C together.
        expand: E = expand * C.
        headdim: head width P; must divide D. None picks the largest divisor of D up to 80.
        ngroups: groups G that share B and C.
        chunk_size: length of the chunks of the algorithm; the result does not depend on it.
        reverse: scan from the last token to the first.
        heads: number of heads H, instead of ``headdim``.
        d_ssm: channels D that go through the scan, E if None; the others are a gated unit beside it.
        D_has_hdim: a skip weight for each channel instead of each head.
        rmsnorm: normalize the gated output; without it the gate is part of the scan.
        norm_before_gate: gate the normalized output instead of normalizing the gated one.
        dt_limit: smallest and largest time step.
        bias: whether ``in_proj`` and ``out_proj`` have a bias.
        conv_bias: whether the convolution has one.
        dt_range: smallest and largest initial time step.

    Raises:
        ValueError: if heads, groups and channels do not divide.
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
        heads: int | None = None,
        d_ssm: int | None = None,
        D_has_hdim: bool = False,
        rmsnorm: bool = True,
        norm_before_gate: bool = False,
        dt_limit: tuple[float, float] = (0.0, math.inf),
        bias: bool = False,
        conv_bias: bool = True,
        dt_range: tuple[float, float] = (1e-3, 1e-1),
    ):
        super().__init__()
        d_inner = expand * d_model
        self.d_inner = d_inner if d_ssm is None else d_ssm
        self.heads, self.headdim = _heads(self.d_inner, heads, headdim)
        if not 0 < self.d_inner <= d_inner:
            raise ValueError(f"d_ssm must be between 1 and expand * d_model = {d_inner}, got {d_ssm}")
        if self.heads % ngroups:
            raise ValueError(f"{ngroups} groups do not divide {self.heads} heads")
        self.d_mlp = d_inner - self.d_inner
        self.d_state, self.ngroups, self.chunk_size, self.reverse = d_state, ngroups, chunk_size, reverse
        self.dt_limit, self.dt_range = tuple(dt_limit), tuple(dt_range)
        self.conv_channels = self.d_inner + 2 * ngroups * d_state
        self.in_proj = nn.Linear(d_model, sum(self._widths()), bias=bias)
        self.conv1d = nn.Conv1d(
            self.conv_channels,
            self.conv_channels,
            d_conv,
            groups=self.conv_channels,
            padding=d_conv - 1,
            bias=conv_bias,
        )
        self.dt_bias = nn.Parameter(inverse_softplus_of_time_steps(self.heads, *self.dt_range))
        self.A_log = nn.Parameter(torch.log(torch.empty(self.heads).uniform_(1, 16)))
        self.D = nn.Parameter(torch.ones(self.d_inner if D_has_hdim else self.heads))
        self.norm = GatedRMSNorm(self.d_inner, norm_before_gate=norm_before_gate) if rmsnorm else None
        self.out_proj = nn.Linear(d_inner, d_model, bias=bias)

    def _widths(self) -> list[int]:
        """Sizes of the parts of the input projection: gate and value of the unit beside the scan, z, x B C, dt."""
        return [self.d_mlp, self.d_mlp, self.d_inner, self.conv_channels, self.heads]

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mixes tokens (B, L, C) along L; the state is float32 or wider whatever the input dtype."""
        gate, value, z, xbc, dt = self.in_proj(tokens).split(self._widths(), dim=-1)
        y = self._scan(xbc, dt, z, self.conv1d, self.dt_bias, self.A_log, self.D, self.reverse)
        return self._project(self._normalize(y, z), gate, value)

    def _scan(
        self,
        xbc: torch.Tensor,
        dt: torch.Tensor,
        z: torch.Tensor,
        conv1d: nn.Conv1d,
        dt_bias: torch.Tensor,
        A_log: torch.Tensor,
        D: torch.Tensor,
        reverse: bool,
    ) -> torch.Tensor:
        """Convolution and scan of one direction, (B, L, D); gated if there is no norm to do it."""
        xbc = causal_conv1d(
            xbc.transpose(1, 2), conv1d.weight.squeeze(1), conv1d.bias, "silu", reverse=reverse
        ).transpose(1, 2)
        bc = self.ngroups * self.d_state
        x, B, C = xbc.split([self.d_inner, bc, bc], dim=-1)
        y = ssd_scan(
            x.unflatten(-1, (self.heads, self.headdim)),
            dt,
            -torch.exp(wide(A_log)),
            B.unflatten(-1, (self.ngroups, self.d_state)),
            C.unflatten(-1, (self.ngroups, self.d_state)),
            self.chunk_size,
            wide(D) if D.shape[0] == self.heads else wide(D).unflatten(0, (self.heads, self.headdim)),
            z=None if self.norm is not None else z.unflatten(-1, (self.heads, self.headdim)),
            dt_bias=wide(dt_bias),
            dt_softplus=True,
            dt_limit=self.dt_limit,
            reverse=reverse,
        )
        return y.flatten(-2)

    def _normalize(self, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return y if self.norm is None else self.norm(y, z)

    def _project(self, y: torch.Tensor, gate: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Output of the unit beside the scan put before that of the scan, and the output projection, (B, L, C)."""
        return self.out_proj(torch.cat([F.silu(gate) * value, y], dim=-1) if self.d_mlp else y)


def _heads(channels: int, heads: int | None, headdim: int | None) -> tuple[int, int]:
    """Number and width of the heads."""
    if heads is not None:
        if heads < 1 or channels % heads:
            raise ValueError(f"{heads} heads do not divide {channels} channels")
        return heads, channels // heads
    width = largest_head_width(channels) if headdim is None else headdim
    if width < 1 or channels % width:
        raise ValueError(f"headdim {headdim} does not divide the {channels} channels of the scan")
    return channels // width, width
