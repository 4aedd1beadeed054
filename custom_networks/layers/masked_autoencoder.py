"""Masked autoencoder around any two token stacks.

Source: He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners". Letters: B batch, L patches, K kept patches,
C width, P values of a patch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from custom_networks.layers.masked_prediction import LOSS_PATCHES, MaskedPrediction, compare_patches
from custom_networks.layers.patch_tokens import patchify
from custom_networks.layers.random_masking import ORDERS, PatchMask, random_mask, restore_tokens, take_tokens
from custom_networks.layers.sincos_positions import resample_table, sincos_table

ALIGNMENTS = ("aligned", "legacy")


class MaskedAutoencoder(nn.Module):
    """Embeds patches, hides most of them, encodes the rest, and predicts all of them with a smaller stack.

    Position tables are fixed sines and cosines: parameters without gradient.

    Args:
        patch_embedding: image to tokens (B, L, C), with the attributes of
            :class:`~custom_networks.layers.patch_tokens.PatchTokens`.
        encoder: stack of width C.
        decoder: stack of width ``decoder_dim``.
        decoder_dim: width of the decoder.
        class_token: a learned token before the sequence.
        token_order: order of the visible tokens, "raster" or "shuffle".
        decoder_alignment: "aligned", or "legacy" for the arithmetic of published networks without a class token, whose
            decoder takes the first visible patch for one; with a class token both are the same.
        mask_ratio: part of the patches that is hidden.
        norm_pix: predict standardized patches.
        loss_on: "hidden" patches or "all".
        skip_constant_patches: leave patches without contrast out of the loss.
        position_grid: grid that the position tables are computed for and then interpolated from; None for the own grid.

    Raises:
        ValueError: for unknown options.
    """

    def __init__(
        self,
        patch_embedding: nn.Module,
        encoder: nn.Module,
        decoder: nn.Module,
        decoder_dim: int,
        class_token: bool,
        token_order: str,
        decoder_alignment: str,
        mask_ratio: float,
        norm_pix: bool,
        loss_on: str,
        skip_constant_patches: bool,
        position_grid: Sequence[int] | None,
    ):
        super().__init__()
        for name, value, known in (
            ("token_order", token_order, ORDERS),
            ("decoder_alignment", decoder_alignment, ALIGNMENTS),
            ("loss_on", loss_on, LOSS_PATCHES),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        self.token_order, self.mask_ratio = token_order, mask_ratio
        self.norm_pix, self.loss_on, self.skip_constant_patches = norm_pix, loss_on, skip_constant_patches
        # Tokens before the patches: the class token, or in the decoder the place that a missing one would have.
        self.prefix = int(class_token)
        self.decoder_prefix = int(class_token or decoder_alignment == "legacy")

        self.patch_embedding, self.encoder, self.decoder = patch_embedding, encoder, decoder
        self.grid, self.patch_size = patch_embedding.grid, patch_embedding.patch_size
        channels, width = patch_embedding.in_channels, patch_embedding.width
        self.class_token = nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02)) if class_token else None
        self.position_embedding = self._positions(width, self.prefix, position_grid)
        self.decoder_embedding = nn.Linear(width, decoder_dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, decoder_dim).normal_(std=0.02))
        self.decoder_position_embedding = self._positions(decoder_dim, self.decoder_prefix, position_grid)
        self.prediction_head = nn.Linear(decoder_dim, channels * math.prod(self.patch_size))

    def _positions(self, width: int, prefix: int, position_grid: Sequence[int] | None) -> nn.Parameter:
        first = tuple(position_grid or self.grid)
        table = resample_table(sincos_table(first, width, prefix), first, self.grid)
        return nn.Parameter(table, requires_grad=False)

    def _stack_arguments(self, stack: nn.Module, tokens: torch.Tensor, keep: torch.Tensor | None) -> dict[str, Any]:
        """What a stack needs beside tokens of all patches, or of those in ``keep``, after the class token."""
        return {}

    def _mask(self, image: torch.Tensor, noise: torch.Tensor | None, mask_ratio: float | None) -> PatchMask:
        if noise is None:
            noise = torch.rand(image.shape[0], self.patch_embedding.patches, device=image.device)
        return random_mask(noise, self.mask_ratio if mask_ratio is None else mask_ratio, self.token_order)

    def _visible(
        self, image: torch.Tensor, noise: torch.Tensor | None, mask_ratio: float | None
    ) -> tuple[torch.Tensor, PatchMask]:
        tokens = self.patch_embedding(image) + self.position_embedding[:, self.prefix :]
        mask = self._mask(image, noise, mask_ratio)
        tokens = take_tokens(tokens, mask.keep)
        if self.class_token is not None:
            first = (self.class_token + self.position_embedding[:, :1]).to(tokens.dtype)
            tokens = torch.cat([first.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        return tokens, mask

    def encode(
        self, image: torch.Tensor, noise: torch.Tensor | None = None, mask_ratio: float | None = None
    ) -> tuple[torch.Tensor, PatchMask]:
        """Runs the encoder on the visible patches.

        Args:
            image: (B, in_channels, *image_size).
            noise: (B, L), hides the patches of the largest values; None draws from the global generator.
            mask_ratio: hidden part; None for the network's own. 0 shows all patches.

        Returns:
            Normalized tokens (B, K, C), class token in front if there is one, and the mask.
        """
        tokens, mask = self._visible(image, noise, mask_ratio)
        return self.encoder(tokens, **self._stack_arguments(self.encoder, tokens, mask.keep)), mask

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
            source: "norm" for the normalized output (published), or another one of the encoder's ``representation``.
            blocks: number of encoder blocks to run; None for all.

        Returns:
            (B, L, C) in raster order, zeros at hidden patches, class token left out; and the mask.
        """
        tokens, mask = self._visible(image, noise, mask_ratio)
        extra = self._stack_arguments(self.encoder, tokens, mask.keep)
        kept = self.encoder.representation(tokens, source=source, blocks=blocks, **extra)[:, self.prefix :]
        return restore_tokens(kept, kept.new_zeros(1, 1, kept.shape[-1]), mask.restore), mask

    def decode(self, latent: torch.Tensor, mask: PatchMask) -> torch.Tensor:
        """Predicted vectors (B, L, P) of all patches from the output of `encode`."""
        tokens = self.decoder_embedding(latent)
        first, kept = tokens[:, : self.decoder_prefix], tokens[:, self.decoder_prefix :]
        tokens = torch.cat([first, restore_tokens(kept, self.mask_token, mask.restore)], dim=1)
        tokens = tokens + self.decoder_position_embedding
        tokens = self.decoder(tokens, **self._stack_arguments(self.decoder, tokens, None))
        return self.prediction_head(tokens[:, self.decoder_prefix :])

    def forward(
        self, image: torch.Tensor, noise: torch.Tensor | None = None, target_image: torch.Tensor | None = None
    ) -> MaskedPrediction:
        """Hides patches of an image and predicts them.

        Args:
            image: (B, in_channels, *image_size).
            noise: (B, L), hides the patches of the largest values; None draws from the global generator.
            target_image: what to predict, of the same shape; None for the image itself. With the image as it was before
                noise was added the target of a constant background is no noise.
        """
        latent, mask = self.encode(image, noise)
        target = patchify(image if target_image is None else target_image, self.patch_size)
        return compare_patches(
            self.decode(latent, mask), target, mask.hidden, self.norm_pix, self.loss_on, self.skip_constant_patches
        )
