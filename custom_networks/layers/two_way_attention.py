"""Two-way cross-attention between click tokens and image tokens.

Source: Kirillov et al. 2023, "Segment Anything", section 3 (mask decoder), as used by U-Mamba2 (Tan et al. 2025).
Letters: B batch, C width, Q queries (clicks), L image tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class ProjectedAttention(nn.Module):
    """Multi-head attention with separate projections to an internal width and back."""

    def __init__(self, channels: int, heads: int, internal_channels: int):
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(channels, internal_channels)
        self.k_proj = nn.Linear(channels, internal_channels)
        self.v_proj = nn.Linear(channels, internal_channels)
        self.out_proj = nn.Linear(internal_channels, channels)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Queries (B, Q, C), keys and values (B, L, C) to (B, Q, C)."""
        q, k, v = self._split(self.q_proj(q)), self._split(self.k_proj(k)), self._split(self.v_proj(v))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class TwoWayAttentionBlock(nn.Module):
    """Self-attention of the queries, queries to image, MLP, image to queries; norms after each.

    Args:
        channels: width C.
        heads: attention heads.
        mlp_channels: hidden width of the MLP.
        first: the first block replaces the queries by their self-attention, without position code or residual.
    """

    def __init__(self, channels: int, heads: int, mlp_channels: int, first: bool):
        super().__init__()
        self.first = first
        self.self_attention = ProjectedAttention(channels, heads, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.query_to_image = ProjectedAttention(channels, heads, channels // 2)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, mlp_channels), nn.ReLU(), nn.Linear(mlp_channels, channels))
        self.norm3 = nn.LayerNorm(channels)
        self.image_to_query = ProjectedAttention(channels, heads, channels // 2)
        self.norm4 = nn.LayerNorm(channels)

    def forward(
        self, queries: torch.Tensor, image: torch.Tensor, query_code: torch.Tensor, image_code: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Updates queries (B, Q, C) and image tokens (B, L, C); the codes have the same shapes."""
        if self.first:
            queries = self.self_attention(queries, queries, queries)
        else:
            coded = queries + query_code
            queries = queries + self.self_attention(coded, coded, queries)
        queries = self.norm1(queries)
        queries = self.norm2(queries + self.query_to_image(queries + query_code, image + image_code, image))
        queries = self.norm3(queries + self.mlp(queries))
        image = self.norm4(image + self.image_to_query(image + image_code, queries + query_code, queries))
        return queries, image
