"""Self-attention whose queries, keys and values pass a causal depthwise convolution.

Source: Dao and Gu 2024, "Transformers are SSMs", section 7.2 (hybrid models), and Mamba's published attention module.
Letters: B batch, L length, C width, H heads, P head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from custom_networks.ops import causal_conv1d


class ConvolvedAttention(nn.Module):
    """Multi-head attention over a sequence, (B, L, C) to (B, L, C).

    Args:
        d_model: width C of the tokens.
        num_heads: heads H.
        head_dim: head width P; H * P need not be C. None for C / H.
        d_conv: width of the convolution over queries, keys and values (no activation); 0 for none.
        causal: attend to earlier tokens only. The convolution is causal in any case.
        qkv_bias: whether the input projection has a bias.
        out_bias: whether the output projection has a bias.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int = 16,
        head_dim: int | None = 128,
        d_conv: int = 4,
        causal: bool = False,
        qkv_bias: bool = False,
        out_bias: bool = False,
    ):
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        inner = num_heads * (d_model // num_heads if head_dim is None else head_dim)
        self.in_proj = nn.Linear(d_model, 3 * inner, bias=qkv_bias)
        self.conv1d = nn.Conv1d(3 * inner, 3 * inner, d_conv, groups=3 * inner) if d_conv else None
        self.out_proj = nn.Linear(inner, d_model, bias=out_bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mixes tokens (B, L, C) along L."""
        qkv = self.in_proj(tokens)
        if self.conv1d is not None:
            weight, bias = self.conv1d.weight.squeeze(1), self.conv1d.bias
            qkv = causal_conv1d(qkv.transpose(1, 2), weight, bias).transpose(1, 2)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))
