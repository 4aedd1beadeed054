"""Masked autoencoder of a bidirectional state-space encoder for volumes (3D Mamba MAE).

Source: Hu et al. 2024, "Learning Brain Tumor Representation in 3D High-Resolution MR Images via Interpretable State Space
Models", arXiv:2409.07746; He et al. 2022 (masked autoencoders); Zhu et al. 2024 (Vision Mamba). Letters: B batch,
L patches, K kept patches, C width, P values of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from custom_networks.layers.initialization import initialize_as_autoencoder, shrink_mixer_outputs
from custom_networks.layers.masked_prediction import MaskedPrediction, compare_patches
from custom_networks.layers.patch_tokens import PatchTokens, patchify
from custom_networks.layers.random_masking import PatchMask, random_mask, restore_tokens, take_tokens
from custom_networks.layers.residual_stack import ResidualStack
from custom_networks.layers.rotary import (
    Rotation,
    check_rotary,
    grid_rotation,
    sequence_rotation,
    with_unrotated_tokens,
)
from custom_networks.layers.sincos_positions import resample_table, sincos_table

ALIGNMENTS = ("aligned", "legacy")


class VimMAE(nn.Module):
    """Masked autoencoder whose encoder and decoder are residual stacks of state-space mixers.

    The defaults are for new training. The published networks are ``token_order="shuffle"``,
    ``decoder_alignment="legacy"``, ``rotary="sequence_half"``, with these misfits: visible tokens are scanned in random
    order; the first visible token stands in the decoder's place of a class token, so that all others are shifted by one
    rank; and the rotation turns by the place in the shuffled sequence.

    Args:
        in_channels: image channels.
        image_size: voxels along every axis; its length is the number of spatial dimensions.
        patch_size: one number, or one an axis.
        embed_dim: width of the encoder.
        depth: blocks of the encoder.
        decoder_dim: width of the decoder.
        decoder_depth: blocks of the decoder.
        rotary: one of :data:`custom_networks.layers.rotary.KINDS`.
        token_order: order in which visible tokens are scanned, "raster" or "shuffle".
        decoder_alignment: "aligned" or "legacy"; the same with a class token.
        class_token: a learned token before the sequence; patch tokens are then not normalized.
        mask_ratio: part of the patches that is hidden.
        norm_pix: predict standardized patches.
        loss_on: "hidden" patches or "all".
        skip_constant_patches: leave patches without contrast out of the loss.
        position_grid: grid that the position tables are computed for and then interpolated from; None for the own grid.
        attention_blocks: encoder blocks whose mixer is attention.
        decoder_attention_blocks: the same for the decoder.
        **stack: options of both :class:`~custom_networks.layers.residual_stack.ResidualStack`: ``mixer``,
            ``mixer_options``, ``attention_options``, ``norm``, ``norm_eps``, ``drop_path``, ``rotate_residual``,
            ``checkpointing``.

    Raises:
        ValueError: for sizes or options that do not fit together.
    """

    def __init__(
        self,
        in_channels: int = 4,
        image_size: Sequence[int] = (160, 160, 160),
        patch_size: int | Sequence[int] = 16,
        embed_dim: int = 384,
        depth: int = 12,
        decoder_dim: int = 192,
        decoder_depth: int = 8,
        rotary: str = "axial_three",
        token_order: str = "raster",
        decoder_alignment: str = "aligned",
        class_token: bool = False,
        mask_ratio: float = 0.75,
        norm_pix: bool = True,
        loss_on: str = "hidden",
        skip_constant_patches: bool = False,
        position_grid: Sequence[int] | None = None,
        attention_blocks: Sequence[int] = (),
        decoder_attention_blocks: Sequence[int] = (),
        **stack: object,
    ):
        super().__init__()
        if decoder_alignment not in ALIGNMENTS:
            raise ValueError(f"decoder_alignment must be one of {', '.join(ALIGNMENTS)}, got {decoder_alignment!r}")
        check_rotary(rotary, embed_dim)
        check_rotary(rotary, decoder_dim)
        self.rotary, self.token_order, self.mask_ratio = rotary, token_order, mask_ratio
        self.norm_pix, self.loss_on, self.skip_constant_patches = norm_pix, loss_on, skip_constant_patches
        self.shifted = decoder_alignment == "legacy" and not class_token
        # Tokens before the patches of a sequence: the class token, or the place of the missing one in the decoder.
        self.prefix, self.decoder_prefix = int(class_token), int(class_token or self.shifted)

        self.patch_embedding = PatchTokens(in_channels, image_size, patch_size, embed_dim, norm=not class_token)
        self.grid, self.patch_size = self.patch_embedding.grid, self.patch_embedding.patch_size
        self.position_embedding = self._positions(embed_dim, self.prefix, position_grid)
        self.class_token = nn.Parameter(torch.zeros(1, 1, embed_dim)) if class_token else None
        self.encoder = ResidualStack(embed_dim, depth, attention_blocks=attention_blocks, **stack)

        self.decoder_embedding = nn.Linear(embed_dim, decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        self.decoder_position_embedding = self._positions(decoder_dim, self.decoder_prefix, position_grid)
        self.decoder = ResidualStack(decoder_dim, decoder_depth, attention_blocks=decoder_attention_blocks, **stack)
        self.prediction_head = nn.Linear(
            decoder_dim, in_channels * self.patch_embedding.projection.weight[0, 0].numel()
        )

        initialize_as_autoencoder(self)
        shrink_mixer_outputs(self, depth)
        for token in (self.class_token, self.mask_token):
            if token is not None:
                nn.init.normal_(token, std=0.02)

    def _positions(self, width: int, prefix: int, position_grid: Sequence[int] | None) -> nn.Parameter:
        table = sincos_table(position_grid or self.grid, width, prefix)
        table = resample_table(table, position_grid or self.grid, self.grid)
        return nn.Parameter(table, requires_grad=False)

    def _rotation(self, tokens: torch.Tensor, prefix: int, keep: torch.Tensor | None = None) -> Rotation | None:
        """Rotation of a sequence of ``prefix`` class tokens and then all patches, or those in ``keep`` (B, K)."""
        if self.rotary == "none":
            return None
        if self.rotary == "sequence_half":
            return sequence_rotation(tokens.shape[1], tokens.shape[2], tokens.device)
        rotation = grid_rotation(self.rotary, self.grid, tokens.shape[2], tokens.device)
        if keep is not None:
            rotation = (rotation[0][keep], rotation[1][keep])
        return with_unrotated_tokens(rotation, range(prefix))

    def encoder_input(
        self, image: torch.Tensor, noise: torch.Tensor | None = None, mask_ratio: float | None = None
    ) -> tuple[torch.Tensor, PatchMask]:
        """Visible tokens with positions, class token in front, and the mask; arguments as for `encode`."""
        tokens = self.patch_embedding(image) + self.position_embedding[:, self.prefix :]
        if noise is None:
            noise = torch.rand(tokens.shape[:2], device=tokens.device)
        mask = random_mask(noise, self.mask_ratio if mask_ratio is None else mask_ratio, self.token_order)
        tokens = take_tokens(tokens, mask.keep)
        if self.class_token is not None:
            first = (self.class_token + self.position_embedding[:, :1]).to(tokens.dtype)
            tokens = torch.cat([first.expand(len(tokens), -1, -1), tokens], dim=1)
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
        tokens, mask = self.encoder_input(image, noise, mask_ratio)
        return self.encoder(tokens, self._rotation(tokens, self.prefix, mask.keep)), mask

    def decoder_input(self, latent: torch.Tensor, mask: PatchMask) -> tuple[torch.Tensor, Rotation | None]:
        """Full sequence with mask tokens and positions, and the rotation that belongs to it."""
        tokens = self.decoder_embedding(latent)
        # Without a class token the published decoder takes the first visible patch for one ("legacy").
        first, kept = tokens[:, : self.decoder_prefix], tokens[:, self.decoder_prefix :]
        tokens = torch.cat([first, restore_tokens(kept, self.mask_token, mask.restore)], dim=1)
        tokens = tokens + self.decoder_position_embedding
        return tokens, self._rotation(tokens, self.decoder_prefix)

    def decode(self, latent: torch.Tensor, mask: PatchMask) -> torch.Tensor:
        """Predicted vectors (B, L, P) of all patches from the output of `encode`."""
        return self.prediction_head(self.decoder(*self.decoder_input(latent, mask))[:, self.decoder_prefix :])

    def forward(
        self, image: torch.Tensor, noise: torch.Tensor | None = None, target_image: torch.Tensor | None = None
    ) -> MaskedPrediction:
        """Hides patches of an image and predicts them.

        Args:
            image: (B, in_channels, *image_size).
            noise: (B, L), hides the patches of the largest values; None draws from the global generator.
            target_image: what to predict; None for the image itself. Give the image before noise was added, so that
                the target of the background is no noise.
        """
        latent, mask = self.encode(image, noise)
        target = patchify(image if target_image is None else target_image, self.patch_size)
        return compare_patches(
            self.decode(latent, mask), target, mask.hidden, self.norm_pix, self.loss_on, self.skip_constant_patches
        )
