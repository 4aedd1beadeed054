"""Codes of grid positions and user clicks by random Fourier features.

Source: Kirillov et al. 2023, "Segment Anything", section 3 (prompt encoder), in the three-dimensional form of U-Mamba2
(Tan et al. 2025, arXiv:2509.12069). Letters: B batch, K clicks, C code width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

NOT_A_POINT = -1


class FourierPositionCode(nn.Module):
    """Sine and cosine code of positions in the unit cube, with a fixed Gaussian frequency matrix (3, C / 2)."""

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("frequencies", torch.randn(3, channels // 2))

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """Positions (..., 3) in [0, 1] to codes (..., C)."""
        angles = 2 * math.pi * ((2 * positions - 1) @ self.frequencies)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def grid(self, size: Sequence[int]) -> torch.Tensor:
        """Codes (C, *size) of the centers of a grid's cells."""
        device, dtype = self.frequencies.device, self.frequencies.dtype
        axes = [(torch.arange(n, device=device, dtype=dtype) + 0.5) / n for n in size]
        positions = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        return self(positions).movedim(-1, 0)


class ClickEncoder(nn.Module):
    """Tokens of clicks: position code plus a learned vector per label, and always one "not a point" token at the end.

    Args:
        channels: width C of a token.
        patch_size: size in voxels of the image that the clicks' coordinates refer to.
        labels: number of click labels.
    """

    def __init__(self, channels: int, patch_size: Sequence[int], labels: int = 2):
        super().__init__()
        self.position_code = FourierPositionCode(channels)
        self.label_embeddings = nn.ParameterList(torch.randn(1, channels) for _ in range(labels))
        self.not_a_point = nn.Parameter(torch.randn(1, channels))
        self.register_buffer("patch_size", torch.tensor(patch_size, dtype=torch.float32), persistent=False)

    def forward(self, coordinates: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Encodes clicks.

        Args:
            coordinates: (B, K, 3) voxel coordinates in array order; K may be 0.
            labels: (B, K) integers; -1 marks padding.

        Returns:
            Tokens (B, K + 1, C).

        Raises:
            ValueError: for a label that is neither -1 nor below the number of labels.
        """
        labels = labels.long()
        # A traced network cannot look at values; there a wrong label fails in the table of embeddings.
        if not torch.compiler.is_compiling() and labels.numel():
            low, high, count = labels.min(), labels.max(), len(self.label_embeddings)
            if low < NOT_A_POINT or high >= count:
                raise ValueError(f"click labels must be -1 … {count - 1}, got {labels.unique().tolist()}")
        codes = self.position_code((coordinates.to(self.patch_size) + 0.5) / self.patch_size)
        known = (labels != NOT_A_POINT).unsqueeze(-1)
        embeddings = torch.cat(list(self.label_embeddings))
        tokens = torch.where(known, codes + embeddings[labels.clamp(min=0)], self.not_a_point)
        return torch.cat([tokens, self.not_a_point.expand(tokens.shape[0], 1, -1)], dim=1)
