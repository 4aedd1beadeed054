"""Mamba-1 mixer that scans in both directions.

Source: Zhu et al. 2024, "Vision Mamba" (Vim), section 3.3, and the published modules of Vim. Letters as in
:mod:`custom_networks.layers.mamba`.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from custom_networks.layers.mamba import Mamba, inner_weights, wide
from custom_networks.ops import bidirectional_mamba_inner, causal_conv1d, selective_scan

KINDS = ("v1", "v2")


class BidirectionalMamba(Mamba):
    """Selective state-space mixer of a sequence, (B, L, C) to (B, L, C), that sees both sides.

    Both kinds share ``in_proj``, the gate and ``out_proj``:

    - "v1": one causal convolution and one set of projections; the second scan, from the last token to the first, has
      only its own ``A_log_reverse``. The two outputs are summed.
    - "v2": the second direction has its own convolution, which sees only the future, and its own ``x_proj_reverse``,
      ``dt_proj_reverse``, ``A_log_reverse`` and ``D_reverse``.

    Args:
        d_model: width C of the tokens.
        d_state: state size N of each channel.
        d_conv: width of the depthwise convolutions.
        expand: D = expand * C.
        dt_rank: rank R of the time-step projection, or "auto" for ceil(C / 16).
        kind: "v1" or "v2".
        halve: "v2" averages the two directions instead of summing them; "v1" never does.
        layer_scale: initial value of a learned factor for each output channel (``scale``); None for no such factor.
        **options: ``bias``, ``conv_bias`` and ``dt_range`` of :class:`~custom_networks.layers.mamba.Mamba`.

    Raises:
        ValueError: for an unknown ``kind``.

    Deviation: ``dt_proj_reverse`` starts like ``dt_proj``. The published modules leave it at the default of a linear
    layer with a bias of zero, which makes the first reverse time steps some ten to seven hundred times as long.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | str = "auto",
        kind: str = "v2",
        halve: bool = True,
        layer_scale: float | None = None,
        **options: object,
    ):
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        super().__init__(d_model, d_state, d_conv, expand, dt_rank, **options)
        self.kind, self.halve = kind, halve
        self.A_log_reverse = copy.deepcopy(self.A_log)
        if kind == "v2":
            self.conv1d_reverse = copy.deepcopy(self.conv1d)
            self.x_proj_reverse = copy.deepcopy(self.x_proj)
            self.dt_proj_reverse = copy.deepcopy(self.dt_proj)
            self.D_reverse = copy.deepcopy(self.D)
            for layer in (self.conv1d_reverse, self.x_proj_reverse):
                layer.reset_parameters()
            self._reset_time_steps(self.dt_proj_reverse)
        self.scale = None if layer_scale is None else nn.Parameter(torch.full((d_model,), float(layer_scale)))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mixes tokens (B, L, C) along L; the state is float32 or wider whatever the input dtype."""
        y = self._both(self.in_proj(tokens))
        out = self.out_proj(y / 2 if self.kind == "v2" and self.halve else y)
        return out if self.scale is None else out * self.scale

    def _both(self, xz: torch.Tensor) -> torch.Tensor:
        """Sum of the gated outputs of the two directions, (B, L, D)."""
        weights = inner_weights(self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D)
        if self.kind == "v2":
            return bidirectional_mamba_inner(
                xz,
                weights,
                inner_weights(
                    self.conv1d_reverse, self.x_proj_reverse, self.dt_proj_reverse, self.A_log_reverse, self.D_reverse
                ),
            )
        return self._shared(xz, weights)

    def _shared(self, xz: torch.Tensor, weights: tuple) -> torch.Tensor:
        """The same for "v1", where both scans read one convolution and one projection."""
        conv_weight, conv_bias, _, _, bias, A, D = weights
        x, z = xz.transpose(1, 2).chunk(2, dim=1)
        u = causal_conv1d(x, conv_weight, conv_bias, "silu")
        parts = [self.dt_rank, self.d_state, self.d_state]
        steps, B, C = self.x_proj(u.transpose(1, 2)).split(parts, dim=-1)
        delta = F.linear(steps, self.dt_proj.weight).transpose(1, 2)
        B, C = B.transpose(1, 2), C.transpose(1, 2)
        ahead = selective_scan(u, delta, A, B, C, D, z, bias, delta_softplus=True)
        A = -torch.exp(wide(self.A_log_reverse))
        behind = selective_scan(u, delta, A, B, C, D, z, bias, delta_softplus=True, reverse=True)
        return (ahead + behind).transpose(1, 2)
