"""Mamba-1 mixer.

Source: Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", section 3.4 and its
published module. Letters: B batch, L length, C model width, D = expand * C channels, N state, R rank of the time step.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from custom_networks.ops import mamba_inner


def inverse_softplus_of_time_steps(count: int, low: float = 1e-3, high: float = 1e-1) -> torch.Tensor:
    """Bias whose softplus, the initial time step, is log-uniform in [low, high] and at least 1e-4; shape (count,)."""
    dt = torch.exp(torch.rand(count) * (math.log(high) - math.log(low)) + math.log(low)).clamp(min=1e-4)
    return dt + torch.log(-torch.expm1(-dt))


def wide(x: torch.Tensor) -> torch.Tensor:
    """A parameter of the recurrence in float32, or wider if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def inner_weights(
    conv1d: nn.Conv1d, x_proj: nn.Linear, dt_proj: nn.Linear, A_log: torch.Tensor, D: torch.Tensor
) -> tuple[torch.Tensor | None, ...]:
    """Arguments of :func:`custom_networks.ops.mamba_inner` for one direction of a mixer."""
    return (
        conv1d.weight.squeeze(1),
        conv1d.bias,
        x_proj.weight,
        dt_proj.weight,
        wide(dt_proj.bias),
        -torch.exp(wide(A_log)),
        wide(D),
    )


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
        weights = inner_weights(self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D)
        return self.out_proj(mamba_inner(self.in_proj(tokens), *weights, reverse=self.reverse))
