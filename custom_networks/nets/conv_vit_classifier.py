"""Classifier with two stages of convolutions below a token encoder (ConvViT).

Source: Gao et al. 2022, "ConvMAE: Masked Convolution Meets Masked Autoencoders"; Kang et al. 2023, arXiv:2306.08249
(Deblurring MAE). Letters: B batch, L patches, C width.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from custom_networks.layers.conv_tokens import ConvTokens
from custom_networks.layers.drop_path_rates import drop_path_rates
from custom_networks.layers.initialization import initialize_as_classifier, shrink_mixer_outputs
from custom_networks.layers.token_stacks import stack_features, stack_options, token_stack

POOLINGS = ("mean", "first_patch")

_log = logging.getLogger(__name__)


class ConvViTClassifier(nn.Module):
    """Convolution stages, tokens with learned positions, token encoder, pooling, linear head, for 2-D images.

    The parts up to the blocks are named as in :class:`~custom_networks.nets.conv_mae.ConvMAE`, which pre-trains them.
    The sum of all stages of pre-training does not exist here: only the third stage feeds the head, as published.

    Args:
        num_classes: logits.
        in_channels: image channels.
        image_size: (height, width).
        patch_sizes: factor by which each stage reduces the height and the width.
        embed_dims: channels of the three stages.
        depths: blocks of the three stages.
        num_heads: attention heads of the third stage.
        mlp_ratios: MLP widths of the three stages in units of their channels.
        encoder: third stage of transformer blocks, "vit", or of bidirectional state-space blocks, "mamba".
        pooling: "mean" of the tokens, then a norm (``feature_norm``); or "first_patch" of the normalized output, which
            is what published networks without pooling take where others have a class token.
        drop_path: rate of stochastic depth of the last block, from 0 at the first block of the first stage.
        norm_eps: epsilon of the norms of the third stage and after it.
        **stack: further options of :class:`~custom_networks.layers.vit_block.ViTStack` or
            :class:`~custom_networks.layers.residual_stack.ResidualStack`, such as ``checkpointing``.

    Raises:
        ValueError: for sizes or options that do not fit together.
    """

    def __init__(
        self,
        num_classes: int = 2,
        in_channels: int = 3,
        image_size: Sequence[int] = (224, 224),
        patch_sizes: Sequence[int] = (4, 2, 2),
        embed_dims: Sequence[int] = (256, 384, 768),
        depths: Sequence[int] = (2, 2, 11),
        num_heads: int = 12,
        mlp_ratios: Sequence[float] = (4.0, 4.0, 4.0),
        encoder: str = "vit",
        pooling: str = "mean",
        drop_path: float = 0.0,
        norm_eps: float = 1e-6,
        **stack: Any,
    ):
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
        if pooling == "first_patch":
            _log.warning("the head sees the first patch only: there is no class token in this network")
        self.pooling, self.prefix = pooling, 0
        rates, first = drop_path_rates(drop_path, sum(depths)), sum(depths[:2])
        self.patch_embedding = ConvTokens(
            in_channels, image_size, patch_sizes, embed_dims, depths[:2], mlp_ratios[:2], rates[:first]
        )
        self.grid, self.patch_size = self.patch_embedding.grid, self.patch_embedding.patch_size
        width = embed_dims[-1]
        self.position_embedding = nn.Parameter(torch.empty(1, self.patch_embedding.patches, width))
        options = stack_options(encoder, mlp_ratios[-1], stack) | {"drop_path": rates[first:], "norm_eps": norm_eps}
        self.encoder = token_stack(encoder, width, depths[-1], num_heads, **options)
        if pooling == "mean":
            self.encoder.norm, self.feature_norm = nn.Identity(), nn.LayerNorm(width, eps=norm_eps)
        else:
            self.feature_norm = nn.Identity()
        self.head = nn.Linear(width, num_classes)

        initialize_as_classifier(self)
        shrink_mixer_outputs(self, depths[-1])
        nn.init.trunc_normal_(self.position_embedding, std=0.02)

    def tokens(self, image: torch.Tensor) -> torch.Tensor:
        """Tokens after the last block, (B, L, C), not normalized."""
        return stack_features(self.encoder, self.patch_embedding(image) + self.position_embedding, self.grid)

    def token_features(self, image: torch.Tensor, source: str = "block", blocks: int | None = None) -> torch.Tensor:
        """Representations of the patches, (B, L, C) in raster order, for maps.

        Args:
            image: (B, in_channels, *image_size).
            source: "block" for the output of the last block, or "norm"; see the encoder's ``representation``.
            blocks: number of blocks of the third stage to run; None for all.

        Raises:
            ValueError: for another source.
        """
        if source not in ("norm", "block"):
            raise ValueError(f"source must be norm or block, got {source!r}")
        tokens = self.patch_embedding(image) + self.position_embedding
        features = stack_features(self.encoder, tokens, self.grid, blocks=blocks)
        return self.encoder.norm(features) if source == "norm" else features

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """What the head sees, (B, C)."""
        tokens = self.encoder.norm(self.tokens(image))
        return self.feature_norm(tokens.mean(dim=1) if self.pooling == "mean" else tokens[:, 0])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of images (B, in_channels, *image_size)."""
        return self.head(self.features(image))
