"""Vision transformer for classification of images and volumes.

Source: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", fine-tuned as in He et al. 2022; the baseline of Hu et
al. 2024, arXiv:2409.07746. Letters: B batch, L patches, C width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from custom_networks.layers.initialization import initialize_as_classifier
from custom_networks.layers.patch_tokens import PatchTokens
from custom_networks.layers.vit_block import ViTStack

POOLINGS = ("mean", "class_token")


class ViTClassifier(nn.Module):
    """Patch tokens with a class token, learned positions, transformer blocks, pooling, linear head.

    The parts up to the blocks are named as in :class:`~custom_networks.nets.vit_mae.ViTMAE`, which pre-trains them.

    Args:
        num_classes: logits.
        in_channels: image channels.
        image_size: pixels along every axis; its length is the number of spatial dimensions.
        patch_size: one number, or one an axis.
        embed_dim: width C.
        depth: number of blocks.
        num_heads: attention heads.
        pooling: "mean" of the patch tokens, then a norm (``feature_norm``); or "class_token" of the normalized output.
        dropout: on the tokens before the first block.
        **stack: options of :class:`~custom_networks.layers.vit_block.ViTStack`: ``mlp_ratio``, ``qkv_bias``,
            ``norm_eps``, ``drop_path``, ``checkpointing``.

    Raises:
        ValueError: for sizes or options that do not fit together.
    """

    def __init__(
        self,
        num_classes: int = 2,
        in_channels: int = 4,
        image_size: Sequence[int] = (160, 160, 160),
        patch_size: int | Sequence[int] = 16,
        embed_dim: int = 384,
        depth: int = 12,
        num_heads: int = 12,
        pooling: str = "mean",
        dropout: float = 0.0,
        **stack: object,
    ):
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
        self.pooling, self.prefix = pooling, 1
        self.patch_embedding = PatchTokens(in_channels, image_size, patch_size, embed_dim, norm=False)
        self.grid, self.patch_size = self.patch_embedding.grid, self.patch_embedding.patch_size
        self.class_token = nn.Parameter(torch.empty(1, 1, embed_dim))
        self.position_embedding = nn.Parameter(torch.empty(1, self.patch_embedding.patches + 1, embed_dim))
        self.dropout = nn.Dropout(dropout)
        self.encoder = ViTStack(embed_dim, depth, num_heads, final_norm=pooling == "class_token", **stack)
        self.feature_norm = (
            nn.LayerNorm(embed_dim, eps=self.encoder.blocks[0].norm1.eps) if pooling == "mean" else nn.Identity()
        )
        self.head = nn.Linear(embed_dim, num_classes)

        initialize_as_classifier(self)
        for parameter in (self.class_token, self.position_embedding):
            nn.init.trunc_normal_(parameter, std=0.02)

    def _encoder_input(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.patch_embedding(image)
        first = self.class_token.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        return self.dropout(torch.cat([first, tokens], dim=1) + self.position_embedding)

    def tokens(self, image: torch.Tensor) -> torch.Tensor:
        """Tokens after the last block, class token first, (B, 1 + L, C), not normalized."""
        return self.encoder.features(self._encoder_input(image))

    def token_features(self, image: torch.Tensor, source: str = "block", blocks: int | None = None) -> torch.Tensor:
        """Representations of the patches, (B, L, C) in raster order, for maps; the class token is left out.

        Args:
            image: (B, in_channels, *image_size).
            source: "block" for the output of the last block, or "norm"; see the encoder's ``representation``.
            blocks: number of blocks to run; None for all.
        """
        return self.patch_tokens(self.encoder.representation(self._encoder_input(image), source, blocks))

    def patch_tokens(self, sequence: torch.Tensor) -> torch.Tensor:
        """Drops the class token of a sequence, so that L tokens in raster order remain."""
        return sequence[:, 1:]

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """What the head sees, (B, C)."""
        tokens = self.encoder.norm(self.tokens(image))
        return self.feature_norm(tokens[:, 1:].mean(dim=1)) if self.pooling == "mean" else tokens[:, 0]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of images (B, in_channels, *image_size)."""
        return self.head(self.features(image))
