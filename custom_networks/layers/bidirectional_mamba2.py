"""Mamba-2 mixer that scans in both directions.

Source: the bidirectional Mamba-2 module published with E-ViM3. Letters as in :mod:`custom_networks.layers.mamba2`.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from custom_networks.layers.mamba import inverse_softplus_of_time_steps
from custom_networks.layers.mamba2 import Mamba2


class BidirectionalMamba2(Mamba2):
    """State-space duality mixer of a sequence, (B, L, C) to (B, L, C), that sees both sides.

    Input and output projection, gate and norm are shared, and each direction is normalized before they are joined. The
    reverse direction has its own convolution, time steps (the last H rows of ``in_proj``), ``dt_bias_reverse`` and
    ``A_log_reverse``.

    Args:
        d_model: width C of the tokens.
        halve: average the two directions instead of summing them.
        own_skip: the reverse direction has its own skip weight ``D_reverse``. The published module carries that weight
            but uses ``D`` for both directions.
        **options: those of :class:`~custom_networks.layers.mamba2.Mamba2` except ``reverse``.
    """

    def __init__(self, d_model: int, halve: bool = True, own_skip: bool = False, **options: object):
        super().__init__(d_model, **options)
        self.halve = halve
        self.conv1d_reverse = copy.deepcopy(self.conv1d)
        self.conv1d_reverse.reset_parameters()
        self.dt_bias_reverse = nn.Parameter(inverse_softplus_of_time_steps(self.heads, *self.dt_range))
        self.A_log_reverse = nn.Parameter(torch.log(torch.empty(self.heads).uniform_(1, 16)))
        self.D_reverse = nn.Parameter(torch.ones_like(self.D)) if own_skip else None

    def _widths(self) -> list[int]:
        return [*super()._widths(), self.heads]

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mixes tokens (B, L, C) along L; the state is float32 or wider whatever the input dtype."""
        gate, value, z, xbc, dt, dt_reverse = self.in_proj(tokens).split(self._widths(), dim=-1)
        ahead = self._scan(xbc, dt, z, self.conv1d, self.dt_bias, self.A_log, self.D, reverse=False)
        skip = self.D if self.D_reverse is None else self.D_reverse
        behind = self._scan(
            xbc, dt_reverse, z, self.conv1d_reverse, self.dt_bias_reverse, self.A_log_reverse, skip, reverse=True
        )
        y = self._normalize(ahead, z) + self._normalize(behind, z)
        return self._project(y / 2 if self.halve else y, gate, value)
