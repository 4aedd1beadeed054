"""Classifier with a bidirectional state-space encoder for volumes.

Source: Hu et al. 2024, arXiv:2409.07746; Zhu et al. 2024, "Vision Mamba". Letters: B batch, L patches, C width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from custom_networks.layers.initialization import shrink_mixer_outputs
from custom_networks.layers.patch_tokens import PatchTokens
from custom_networks.layers.residual_stack import ResidualStack
from custom_networks.layers.rotary import check_rotary, rotation_of
from custom_networks.layers.token_stacks import reading_order

POOLINGS = ("mean", "last", "max", "all")
CLASS_TOKENS = ("none", "front", "middle", "both_ends")


class VimClassifier(nn.Module):
    """Patch tokens, learned positions, residual stack of state-space mixers, pooling, linear head.

    The parts up to the head are named as in :class:`~custom_networks.nets.vim_mae.VimMAE`, which pre-trains them. The
    published networks are ``rotary="axial_two_of_three"``.

    Args:
        num_classes: logits.
        in_channels: image channels.
        image_size: voxels along every axis; its length is the number of spatial dimensions.
        patch_size: one number, or one an axis.
        embed_dim: width C.
        depth: number of blocks.
        pooling: "mean" of the tokens (published), "last" token, "max": largest logit of any token, "all": logits of
            every token. Networks with class tokens use these instead.
        class_token: "none", "front", "middle" or "both_ends" of the sequence; patch tokens are not normalized with one.
        rotary: one of :data:`custom_networks.layers.rotary.KINDS`.
        learned_positions: add a trained position table to the tokens.
        dropout: on the tokens before the first block.
        **stack: options of :class:`~custom_networks.layers.residual_stack.ResidualStack`: ``mixer``,
            ``mixer_options``, ``attention_blocks``, ``attention_options``, ``norm``, ``norm_eps``, ``drop_path``,
            ``rotate_residual``, ``scan_order``, ``mlp_ratio``, ``checkpointing``.

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
        pooling: str = "mean",
        class_token: str = "none",
        rotary: str = "axial_three",
        learned_positions: bool = True,
        dropout: float = 0.0,
        **stack: object,
    ):
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
        if class_token not in CLASS_TOKENS:
            raise ValueError(f"class_token must be one of {', '.join(CLASS_TOKENS)}, got {class_token!r}")
        check_rotary(rotary, embed_dim)
        self.pooling, self.rotary = pooling, rotary
        self.patch_embedding = PatchTokens(in_channels, image_size, patch_size, embed_dim, norm=class_token == "none")
        self.grid, self.patch_size = self.patch_embedding.grid, self.patch_embedding.patch_size
        patches = self.patch_embedding.patches
        self.class_places = {"none": (), "front": (0,), "middle": (patches // 2,), "both_ends": (0, patches + 1)}[
            class_token
        ]
        self.prefix = count = len(self.class_places)
        self.class_token = nn.Parameter(torch.empty(1, 1, embed_dim)) if count else None
        self.tail_token = nn.Parameter(torch.empty(1, 1, embed_dim)) if count == 2 else None
        self.position_embedding = (
            nn.Parameter(torch.empty(1, patches + count, embed_dim)) if learned_positions else None
        )
        self.dropout = nn.Dropout(dropout)
        self.encoder = ResidualStack(embed_dim, depth, **stack)
        self.head = nn.Linear(embed_dim, num_classes)

        shrink_mixer_outputs(self, depth)
        for parameter in (self.position_embedding, self.class_token, self.tail_token, self.head.weight):
            if parameter is not None:
                nn.init.trunc_normal_(parameter, std=0.02)
        nn.init.zeros_(self.head.bias)

    def _encoder_input(self, image: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
        """Tokens before the first block, and what the encoder needs beside them."""
        tokens = self.patch_embedding(image)
        for place, token in zip(self.class_places, (self.class_token, self.tail_token), strict=False):
            token = token.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
            tokens = torch.cat([tokens[:, :place], token, tokens[:, place:]], dim=1)
        rotation = rotation_of(self.rotary, tokens, self.grid, self.class_places)
        if self.position_embedding is not None:
            tokens = tokens + self.position_embedding
        order = reading_order(self.encoder, tokens, self.grid, self.class_places)
        return self.dropout(tokens), {"rotation": rotation, "order": order}

    def streams(self, image: torch.Tensor, blocks: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Output of a mixer and the residual stream that it saw, (B, sequence, C) each, class tokens included.

        Args:
            image: (B, in_channels, *image_size).
            blocks: number of blocks to run; None for all.
        """
        tokens, extra = self._encoder_input(image)
        return self.encoder.streams(tokens, blocks=blocks, **extra)

    def tokens(self, image: torch.Tensor) -> torch.Tensor:
        """Normalized tokens after the last block, (B, sequence, C), class tokens included."""
        tokens, extra = self._encoder_input(image)
        return self.encoder(tokens, **extra)

    def token_features(self, image: torch.Tensor, source: str = "mixer", blocks: int | None = None) -> torch.Tensor:
        """Representations of the patches, (B, L, C) in raster order, for maps; class tokens are left out.

        Args:
            image: (B, in_channels, *image_size).
            source: "mixer" for the output of the last mixer (published), "residual" or "norm"; see the encoder's
                ``representation``.
            blocks: number of blocks to run; None for all.
        """
        tokens, extra = self._encoder_input(image)
        return self.patch_tokens(self.encoder.representation(tokens, source=source, blocks=blocks, **extra))

    def patch_tokens(self, sequence: torch.Tensor) -> torch.Tensor:
        """Drops the class tokens of a sequence, so that L tokens in raster order remain."""
        for place in reversed(self.class_places):
            sequence = torch.cat([sequence[:, :place], sequence[:, place + 1 :]], dim=1)
        return sequence

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """What the head sees: (B, C), or all tokens (B, L, C) where ``pooling`` is "max" or "all"."""
        tokens = self.tokens(image)
        if self.class_places:
            return tokens[:, list(self.class_places)].mean(dim=1)
        if self.pooling == "mean":
            return tokens.mean(dim=1)
        return tokens[:, -1] if self.pooling == "last" else tokens

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of images (B, in_channels, *image_size); (B, L, num_classes) for pooling "all"."""
        logits = self.head(self.features(image))
        return logits.amax(dim=1) if self.pooling == "max" and logits.ndim == 3 else logits
