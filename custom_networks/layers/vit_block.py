"""Transformer blocks of vision transformers, for any number of image dimensions.

Source: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words". Letters: B batch, L length, C width, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.blocks import MLPBlock
from monai.networks.layers import DropPath
from torch import nn
from torch.utils.checkpoint import checkpoint

REPRESENTATIONS = ("block", "norm")


class SelfAttention(nn.Module):
    """Multi-head self-attention, (B, L, C) to (B, L, C), that never holds the L x L matrix where PyTorch can avoid it.

    Args:
        width: C.
        num_heads: heads H.
        qkv_bias: bias of the query, key and value projections.

    Raises:
        ValueError: if ``num_heads`` does not divide C.
    """

    def __init__(self, width: int, num_heads: int, qkv_bias: bool = True):
        super().__init__()
        if width % num_heads:
            raise ValueError(f"{num_heads} heads do not divide a width of {width}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mixes tokens (B, L, C)."""
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class ViTBlock(nn.Module):
    """Pre-normalized self-attention and MLP with residual connections, (B, L, C) to (B, L, C).

    Args:
        width: C.
        num_heads: attention heads; must divide C.
        mlp_ratio: hidden width of the MLP in units of C.
        qkv_bias: bias of the query, key and value projections.
        norm_eps: epsilon of both norms.
        drop_path: probability that a branch of a sample is dropped.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        norm_eps: float = 1e-6,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attention = SelfAttention(width, num_heads, qkv_bias)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = MLPBlock(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mixes tokens (B, L, C)."""
        tokens = tokens + self.drop_path(self.attention(self.norm1(tokens)))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


class ViTStack(nn.Module):
    """Stack of `ViTBlock`s and a final norm.

    Args:
        width: C.
        depth: number of blocks.
        num_heads: attention heads.
        final_norm: normalize the output.
        drop_path: rate of stochastic depth of the last block; it grows linearly from 0 at the first.
        checkpointing: recompute every block in the backward pass.
        **block: further options of `ViTBlock`.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        num_heads: int,
        final_norm: bool = True,
        drop_path: float = 0.0,
        checkpointing: bool = False,
        **block: object,
    ):
        super().__init__()
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(ViTBlock(width, num_heads, drop_path=rate, **block) for rate in rates)
        self.norm = nn.LayerNorm(width, eps=self.blocks[0].norm1.eps) if final_norm else nn.Identity()
        self.checkpointing = checkpointing

    def features(self, tokens: torch.Tensor, blocks: int | None = None) -> torch.Tensor:
        """Tokens (B, L, C) after the first ``blocks`` blocks (None: after all), not normalized."""
        for block in self.blocks[:blocks]:
            if self.checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        return tokens

    def representation(self, tokens: torch.Tensor, source: str = "norm", blocks: int | None = None) -> torch.Tensor:
        """Tokens after the first ``blocks`` blocks: "block" for their output, "norm" for the normalized output.

        Raises:
            ValueError: for an unknown source.
        """
        if source not in REPRESENTATIONS:
            raise ValueError(f"source must be one of {', '.join(REPRESENTATIONS)}, got {source!r}")
        features = self.features(tokens, blocks)
        return features if source == "block" else self.norm(features)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mixes tokens (B, L, C)."""
        return self.norm(self.features(tokens))
