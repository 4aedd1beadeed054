"""Transformer blocks of vision transformers, for any number of image dimensions.

Source: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words"; relative positions and layer scale as in Bao et al.
2022, "BEiT". Letters: B batch, L length, C width, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import MLPBlock
from monai.networks.layers import DropPath
from torch import nn
from torch.utils.checkpoint import checkpoint

from custom_networks.layers.drop_path_rates import drop_path_rates
from custom_networks.layers.relative_position_bias import RelativePositionBias

RELATIVE_POSITIONS = ("none", "each_block", "shared")
REPRESENTATIONS = ("block", "norm")


class SelfAttention(nn.Module):
    """Multi-head self-attention, (B, L, C) to (B, L, C), that never holds the L x L matrix where PyTorch can avoid it.

    Args:
        width: C.
        num_heads: heads H.
        qkv_bias: bias of the query, key and value projections.
        position_bias: gives a bias (H, L, L) of the logits; None for no bias of the module's own.

    Raises:
        ValueError: if ``num_heads`` does not divide C.
    """

    def __init__(self, width: int, num_heads: int, qkv_bias: bool = True, position_bias: nn.Module | None = None):
        super().__init__()
        if width % num_heads:
            raise ValueError(f"{num_heads} heads do not divide a width of {width}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.out_proj = nn.Linear(width, width)
        self.position_bias = position_bias

    def forward(self, tokens: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Mixes tokens (B, L, C); a ``bias`` (H, L, L) of the logits that blocks share is added to the own one."""
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if self.position_bias is not None:
            own = self.position_bias()
            bias = own if bias is None else bias + own
        if bias is None:
            return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype).expand(q.shape[0], -1, -1, -1))
        # Kernels with and without a bias lay heads out differently; a view that fits one breaks exported graphs.
        return self.out_proj(torch.cat(mixed.unbind(1), dim=-1))


class ViTBlock(nn.Module):
    """Pre-normalized self-attention and MLP with residual connections, (B, L, C) to (B, L, C).

    Args:
        width: C.
        num_heads: attention heads; must divide C.
        mlp_ratio: hidden width of the MLP in units of C.
        qkv_bias: bias of the query, key and value projections.
        norm_eps: epsilon of both norms.
        drop_path: probability that a branch of a sample is dropped.
        layer_scale: initial value of a learned factor for each channel of both branches; None for no such factors.
        position_bias: see `SelfAttention`.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        norm_eps: float = 1e-6,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        position_bias: nn.Module | None = None,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attention = SelfAttention(width, num_heads, qkv_bias, position_bias)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = MLPBlock(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)
        for name in ("attention_scale", "mlp_scale"):
            scale = None if layer_scale is None else nn.Parameter(torch.full((width,), float(layer_scale)))
            self.register_parameter(name, scale)

    def forward(self, tokens: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Mixes tokens (B, L, C); ``bias`` as for `SelfAttention`."""
        branch = self.attention(self.norm1(tokens), bias)
        tokens = tokens + self.drop_path(branch if self.attention_scale is None else branch * self.attention_scale)
        branch = self.mlp(self.norm2(tokens))
        return tokens + self.drop_path(branch if self.mlp_scale is None else branch * self.mlp_scale)


class ViTStack(nn.Module):
    """Stack of `ViTBlock`s and a final norm.

    Args:
        width: C.
        depth: number of blocks.
        num_heads: attention heads.
        final_norm: normalize the output.
        drop_path: rate of stochastic depth of the last block, from 0 at the first in equal steps; or all rates.
        checkpointing: recompute every block in the backward pass.
        relative_positions: "none"; a table of attention biases by distance in "each_block"; or one that is "shared".
        grid: patches along every axis, for relative positions.
        class_token: whether a class token stands in front of the patches, for relative positions.
        **block: further options of `ViTBlock`: ``mlp_ratio``, ``qkv_bias``, ``norm_eps``, ``layer_scale``.

    Raises:
        ValueError: for unknown relative positions, or rates that do not fit the depth.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        num_heads: int,
        final_norm: bool = True,
        drop_path: float | Sequence[float] = 0.0,
        checkpointing: bool = False,
        relative_positions: str = "none",
        grid: Sequence[int] = (),
        class_token: bool = False,
        **block: object,
    ):
        super().__init__()
        if relative_positions not in RELATIVE_POSITIONS:
            raise ValueError(
                f"relative_positions must be one of {', '.join(RELATIVE_POSITIONS)}, got {relative_positions!r}"
            )

        def bias(where: str) -> RelativePositionBias | None:
            return RelativePositionBias(grid, num_heads, class_token) if relative_positions == where else None

        self.position_bias = bias("shared")
        self.blocks = nn.ModuleList(
            ViTBlock(width, num_heads, drop_path=rate, position_bias=bias("each_block"), **block)
            for rate in drop_path_rates(drop_path, depth)
        )
        self.norm = nn.LayerNorm(width, eps=self.blocks[0].norm1.eps) if final_norm else nn.Identity()
        self.checkpointing = checkpointing

    def taps(self, tokens: torch.Tensor, after: Sequence[int]) -> list[torch.Tensor]:
        """Tokens (B, L, C) after the blocks of the given indices, ascending, not normalized."""
        bias = None if self.position_bias is None else self.position_bias()
        outputs = []
        for i, block in enumerate(self.blocks[: max(after, default=-1) + 1]):
            if self.checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, bias, use_reentrant=False)
            else:
                tokens = block(tokens, bias)
            if i in after:
                outputs.append(tokens)
        return outputs

    def features(self, tokens: torch.Tensor, blocks: int | None = None) -> torch.Tensor:
        """Tokens (B, L, C) after the first ``blocks`` blocks (None: after all), not normalized."""
        run = len(self.blocks[:blocks])
        return self.taps(tokens, [run - 1])[0] if run else tokens

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
