"""Learned positions of a volume as the sum of one table an axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class SeparablePositions(nn.Module):
    """Adds a learned vector for the frame, the row and the column of every cell of (B, L, H, W, C).

    Args:
        dim: width C.
        size: (L, H, W).
        learned: whether the tables are learned (drawn from a normal distribution of deviation 0.02) or stay zero
            buffers of the same names.

    Source: arXiv:2503.20258 (E-ViM3), axis-separable positional embedding.
    """

    def __init__(self, dim: int, size: Sequence[int], learned: bool = True):
        super().__init__()
        for axis, name in enumerate(("frames", "rows", "columns")):
            shape = [1] * 5
            shape[axis + 1], shape[-1] = size[axis], dim
            if learned:
                self.register_parameter(name, nn.Parameter(0.02 * torch.randn(shape)))
            else:
                self.register_buffer(name, torch.zeros(shape))

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Volume plus positions."""
        return volume + (self.frames + self.rows + self.columns)
