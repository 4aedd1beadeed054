"""Bottleneck layers of U-Mamba2: Mamba-2 on grid tokens with position codes, or with user clicks.

Source: Tan et al. 2025, "U-Mamba2", arXiv:2509.12069, and its published networks. Feature maps are (B, C, *spatial) in
three dimensions. The layers run in float32 also under autocast.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from custom_networks.layers.click_encoding import ClickEncoder, FourierPositionCode
from custom_networks.layers.grid_mixer import GridMixer
from custom_networks.layers.two_way_attention import TwoWayAttentionBlock

Clicks = tuple[torch.Tensor, torch.Tensor]
"""Coordinates (B, K, 3) in voxels, and labels (B, K) with -1 for padding."""


class PositionCodedMixer(GridMixer):
    """Mamba-2 on patch tokens to which a Fourier position code was added."""

    def __init__(self, dim: int, options: dict | None = None):
        super().__init__(dim, "mamba2", options=options)
        self.position_code = FourierPositionCode(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mixes a feature map."""
        return super().forward(x + self.position_code.grid(x.shape[2:]).to(x.dtype))


class AppendedClickMixer(GridMixer):
    """Mamba-2 on image tokens followed by click tokens, which are dropped afterwards.

    The scan is causal, so clicks behind the image tokens cannot change them: offered for published weights only.
    """

    def __init__(self, dim: int, patch_size: Sequence[int], options: dict | None = None, labels: int = 2):
        super().__init__(dim, "mamba2", options=options)
        self.click_encoder = ClickEncoder(dim, patch_size, labels)

    def forward(self, x: torch.Tensor, clicks: Clicks | None = None) -> torch.Tensor:
        """Mixes a feature map; ``clicks`` None gives no click tokens."""
        with torch.autocast(x.device.type, enabled=False):
            tokens = self.to_tokens(x.to(torch.promote_types(x.dtype, torch.float32)))
            count = tokens.shape[1]
            if clicks is not None:
                tokens = torch.cat([tokens, self.click_encoder(*clicks)], dim=1)
            return self.mix(tokens)[:, :count].transpose(1, 2).reshape(x.shape).to(x.dtype)


class CrossAttentionClickMixer(GridMixer):
    """Mamba-2 on image tokens, then two-way cross-attention with the click tokens.

    Args:
        dim: width C.
        patch_size: image size in voxels that the clicks refer to.
        blocks: attention blocks.
        heads: attention heads.
        mlp_channels: hidden width of their MLPs.
        options: further arguments of the Mamba-2 mixer.
        labels: number of click labels.
    """

    def __init__(
        self,
        dim: int,
        patch_size: Sequence[int],
        blocks: int = 2,
        heads: int = 4,
        mlp_channels: int = 1024,
        options: dict | None = None,
        labels: int = 2,
    ):
        super().__init__(dim, "mamba2", options=options)
        self.click_encoder = ClickEncoder(dim, patch_size, labels)
        self.cross_attention = nn.ModuleList(
            TwoWayAttentionBlock(dim, heads, mlp_channels, first=i == 0) for i in range(blocks)
        )

    def forward(self, x: torch.Tensor, clicks: Clicks | None = None) -> torch.Tensor:
        """Mixes a feature map; ``clicks`` None gives an empty set of queries."""
        with torch.autocast(x.device.type, enabled=False):
            image = self.mix(self.to_tokens(x.to(torch.promote_types(x.dtype, torch.float32))))
            queries = image.new_zeros(image.shape[0], 0, self.dim) if clicks is None else self.click_encoder(*clicks)
            query_code = queries
            image_code = self.click_encoder.position_code.grid(x.shape[2:]).flatten(1).T.expand_as(image)
            for block in self.cross_attention:
                queries, image = block(queries, image, query_code, image_code)
            return image.transpose(1, 2).reshape(x.shape).to(x.dtype)
