"""Masked autoencoder with masked convolutions below its token encoder (ConvMAE, Deblurring ConvMAE).

Source: Gao et al. 2022, "ConvMAE: Masked Convolution Meets Masked Autoencoders"; Kang et al. 2023, arXiv:2306.08249
(Deblurring MAE). Letters: B batch, L patches, K kept patches, C width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from custom_networks.layers.conv_tokens import ConvTokens
from custom_networks.layers.initialization import initialize_as_autoencoder, shrink_mixer_outputs
from custom_networks.layers.masked_autoencoder import MaskedAutoencoder
from custom_networks.layers.random_masking import PatchMask, restore_tokens, take_tokens
from custom_networks.layers.token_stacks import reading_order, stack_features, stack_options, token_stack


class ConvMAE(MaskedAutoencoder):
    """Two stages of masked convolutions, a token encoder on the visible patches that all stages feed, a decoder.

    Images are two-dimensional. Nothing that is computed from visible patches depends on pixels of hidden ones.

    The published ConvMAE has ``loss_on="hidden"``. The published Deblurring ConvMAE has ``loss_on="all"``; its input is
    a blurred image and its target the original one. Both have ``encoder="vit"`` and no class token.

    Args:
        in_channels: image channels.
        image_size: (height, width).
        patch_sizes: factor by which each stage reduces the height and the width.
        embed_dims: channels of the three stages.
        depths: blocks of the three stages.
        num_heads: attention heads of the third stage.
        mlp_ratios: MLP widths of the three stages in units of their channels. A "vit" decoder has that of the first.
        decoder_dim: width of the decoder.
        decoder_depth: blocks of the decoder.
        decoder_num_heads: attention heads of the decoder.
        encoder: third stage of transformer blocks, "vit", or of bidirectional state-space blocks, "mamba".
        decoder: "vit" or "mamba".
        token_order: order in which visible tokens are fed; "shuffle" is for "vit" only.
        mask_ratio: part of the patches that is hidden.
        norm_pix: predict standardized patches.
        loss_on: "hidden" patches or "all".
        decoder_options: options of the decoder's stack, as those of the encoder's.
        **stack: options of the encoder's :class:`~custom_networks.layers.vit_block.ViTStack` or
            :class:`~custom_networks.layers.residual_stack.ResidualStack`, such as ``checkpointing``.

    Raises:
        ValueError: for sizes or options that do not fit together.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: Sequence[int] = (224, 224),
        patch_sizes: Sequence[int] = (4, 2, 2),
        embed_dims: Sequence[int] = (256, 384, 768),
        depths: Sequence[int] = (2, 2, 11),
        num_heads: int = 12,
        mlp_ratios: Sequence[float] = (4.0, 4.0, 4.0),
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_num_heads: int = 16,
        encoder: str = "vit",
        decoder: str = "vit",
        token_order: str = "raster",
        mask_ratio: float = 0.75,
        norm_pix: bool = False,
        loss_on: str = "hidden",
        decoder_options: dict | None = None,
        **stack: Any,
    ):
        if encoder == "mamba" and token_order != "raster":
            raise ValueError("a state-space encoder reads the visible patches in the order of the image")
        stack = stack_options(encoder, mlp_ratios[-1], stack)
        decoder_options = stack_options(decoder, mlp_ratios[0], decoder_options)
        super().__init__(
            ConvTokens(in_channels, image_size, patch_sizes, embed_dims, depths[:2], mlp_ratios[:2]),
            token_stack(encoder, embed_dims[-1], depths[-1], num_heads, **stack),
            token_stack(decoder, decoder_dim, decoder_depth, decoder_num_heads, **decoder_options),
            decoder_dim,
            class_token=False,
            token_order=token_order,
            decoder_alignment="aligned",
            mask_ratio=mask_ratio,
            norm_pix=norm_pix,
            loss_on=loss_on,
            skip_constant_patches=False,
            position_grid=None,
        )
        self.fusions = nn.ModuleList(
            nn.Conv2d(width, embed_dims[-1], cells, stride=cells)
            for width, cells in zip(embed_dims[:2], self.patch_embedding.cells, strict=True)
        )
        initialize_as_autoencoder(self)
        nn.init.xavier_uniform_(self.patch_embedding.embeddings[-1].projection.weight.flatten(1))
        shrink_mixer_outputs(self.encoder, depths[-1])
        shrink_mixer_outputs(self.decoder, decoder_depth)

    def _stack_arguments(self, stack: nn.Module, tokens: torch.Tensor, keep: torch.Tensor | None) -> dict[str, Any]:
        order = reading_order(stack, tokens, self.grid, keep=keep)
        return {} if order is None else {"order": order}

    def _visible_parts(
        self, image: torch.Tensor, noise: torch.Tensor | None, mask_ratio: float | None
    ) -> tuple[torch.Tensor, torch.Tensor, PatchMask]:
        """Visible tokens before the encoder, what the first two stages add after it, and the mask."""
        mask = self._mask(image, noise, mask_ratio)
        *maps, tokens = self.patch_embedding.maps(image, ~mask.hidden)
        added = [fusion(x).flatten(2).transpose(1, 2) for fusion, x in zip(self.fusions, maps, strict=True)]
        tokens = take_tokens(tokens + self.position_embedding, mask.keep)
        return tokens, take_tokens(sum(added), mask.keep), mask

    def encode(
        self, image: torch.Tensor, noise: torch.Tensor | None = None, mask_ratio: float | None = None
    ) -> tuple[torch.Tensor, PatchMask]:
        """Runs the encoder on the visible patches.

        Args:
            image: (B, in_channels, *image_size).
            noise: (B, L), hides the patches of the largest values; None draws from the global generator.
            mask_ratio: hidden part; None for the network's own. 0 shows all patches.

        Returns:
            Normalized sum of all stages (B, K, C), and the mask.
        """
        tokens, added, mask = self._visible_parts(image, noise, mask_ratio)
        return self.encoder.norm(stack_features(self.encoder, tokens, self.grid, mask.keep) + added), mask

    def token_features(
        self,
        image: torch.Tensor,
        noise: torch.Tensor | None = None,
        mask_ratio: float | None = None,
        source: str = "norm",
        blocks: int | None = None,
    ) -> tuple[torch.Tensor, PatchMask]:
        """Representations of the visible patches at their places in the image, for maps.

        Args:
            image: as for `encode`.
            noise: as for `encode`.
            mask_ratio: as for `encode`.
            source: "norm" for the normalized sum of all stages, "block" for the output of the third one.
            blocks: number of blocks of the third stage to run; None for all.

        Returns:
            (B, L, C) in raster order, zeros at hidden patches; and the mask.

        Raises:
            ValueError: for another source.
        """
        if source not in ("norm", "block"):
            raise ValueError(f"source must be norm or block, got {source!r}")
        tokens, added, mask = self._visible_parts(image, noise, mask_ratio)
        kept = stack_features(self.encoder, tokens, self.grid, mask.keep, blocks)
        kept = kept if source == "block" else self.encoder.norm(kept + added)
        return restore_tokens(kept, kept.new_zeros(1, 1, kept.shape[-1]), mask.restore), mask
