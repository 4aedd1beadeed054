"""E-ViM3 with a segmentation head: logits for every pixel of every frame.

Source: arXiv:2503.20258 and its published code.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from custom_networks.layers.patches import from_patches
from custom_networks.nets.mamba3d import Mamba3DEncoder


class Mamba3DSegmenter(nn.Module):
    """Clips (B, C, L, H, W) to logits (B, out_channels, L, H, W): layer norm and a linear map of every patch token.

    Frames and pixels behind the last whole patch have no logits: the output is as large as the patches together.

    Args:
        out_channels: number of classes, background included.
        **encoder: arguments of :class:`~custom_networks.nets.mamba3d.Mamba3DEncoder`.

    Raises:
        ValueError: for unknown names, or a clip of another size than the network was built for.
    """

    def __init__(self, out_channels: int = 2, **encoder: Any):
        super().__init__()
        self.encoder = Mamba3DEncoder(**encoder)
        self.out_channels = out_channels
        self.norm = nn.LayerNorm(self.encoder.embed_dim)
        self.head = nn.Linear(self.encoder.embed_dim, out_channels * math.prod(self.encoder.patch_size))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of every frame."""
        patches = self.head(self.norm(self.encoder.patch_tokens(self.encoder(image))))
        return from_patches(patches.unflatten(1, self.encoder.layout.grid), self.out_channels, self.encoder.patch_size)
