"""Mamba-1 mixer.

Source: Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", section 3.4 and its
published module. Letters: B batch, L length, C model width, D = expand * C channels, N state, R rank of the time step.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from custom_networks.ops import causal_conv1d, selective_scan


def inverse_softplus_of_time_steps(count: int, low: float = 1e-3, high: float = 1e-1) -> torch.Tensor:
    """Bias whose softplus, the initial time step, is log-uniform in [low, high] and at least 1e-4; shape (count,)."""
    dt = torch.exp(torch.rand(count) * (math.log(high) - math.log(low)) + math.log(low)).clamp(min=1e-4)
    return dt + torch.log(-torch.expm1(-dt))


def scan_inputs(
    xz: torch.Tensor,
    conv1d: nn.Conv1d,
    x_proj: nn.Linear,
    dt_proj: nn.Linear,
    A_log: torch.Tensor,
    D: torch.Tensor,
    reverse: bool = False,
) -> dict[str, object]:
    """Keyword arguments of :func:`custom_networks.ops.selective_scan` for one direction of a mixer.

    Args:
        xz: convolution input and gate side by side, (B, L, 2 D).
        conv1d: depthwise convolution of D channels.
        x_proj: D to R + 2 N.
        dt_proj: R to D.
        A_log: log of the negated state matrix, (D, N).
        D: weight of the skip connection, (D,).
        reverse: from the last token to the first, convolution included.
    """
    # Channel-last all the way: every (B, D, L) operand is a transposed view of (B, L, D) memory.
    x, z = xz.transpose(1, 2).chunk(2, dim=1)
    x = causal_conv1d(x, conv1d.weight.squeeze(1), conv1d.bias, "silu", reverse=reverse)
    states = A_log.shape[1]
    dt, B, C = x_proj(x.transpose(1, 2)).transpose(1, 2).split([dt_proj.in_features, states, states], dim=1)
    return {
        "u": x,
        "delta": F.linear(dt.transpose(1, 2), dt_proj.weight).transpose(1, 2),
        "A": -torch.exp(A_log.float()),
        "B": B,
        "C": C,
        "D": D.float(),
        "z": z,
        "delta_bias": dt_proj.bias.float(),
        "delta_softplus": True,
        "reverse": reverse,
    }


class Mamba(nn.Module):
    """Selective state-space mixer of a sequence, (B, L, C) to (B, L, C), causal.

    Args:
        d_model: width C of the tokens.
        d_state: state size N of each channel.
        d_conv: width of the causal depthwise convolution.
        expand: D = expand * C.
        dt_rank: rank R of the time-step projection, or "auto" for ceil(C / 16).
        reverse: scan from the last token to the first.
        bias: whether ``in_proj`` and ``out_proj`` have a bias.
        conv_bias: whether the convolution has one.
        dt_range: smallest and largest initial time step.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | str = "auto",
        reverse: bool = False,
        bias: bool = False,
        conv_bias: bool = True,
        dt_range: tuple[float, float] = (1e-3, 1e-1),
    ):
        super().__init__()
        self.d_inner = expand * d_model
        self.d_state = d_state
        self.dt_rank = math.ceil(d_model / 16) if dt_rank == "auto" else int(dt_rank)
        self.reverse = reverse
        self.dt_range = tuple(dt_range)
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=bias)
        self.conv1d = nn.Conv1d(
            self.d_inner, self.d_inner, d_conv, groups=self.d_inner, padding=d_conv - 1, bias=conv_bias
        )
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, d_state + 1).float()).repeat(self.d_inner, 1))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias)
        self._reset_time_steps(self.dt_proj)

    def _reset_time_steps(self, dt_proj: nn.Linear) -> None:
        nn.init.uniform_(dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        with torch.no_grad():
            dt_proj.bias.copy_(inverse_softplus_of_time_steps(self.d_inner, *self.dt_range))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mixes tokens (B, L, C) along L; the state is float32 or wider whatever the input dtype."""
        xz = self.in_proj(tokens)
        operands = scan_inputs(xz, self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D, self.reverse)
        return self.out_proj(selective_scan(**operands).transpose(1, 2))
