"""Masked autoencoder with a bidirectional state-space encoder for volumes (3D Mamba MAE).

Source: Hu et al. 2024, "Learning Brain Tumor Representation in 3D High-Resolution MR Images via Interpretable State
Space Models", arXiv:2409.07746; Zhu et al. 2024 (Vision Mamba). Letters: B batch, L patches, K kept patches, C width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from custom_networks.layers.initialization import initialize_as_autoencoder, shrink_mixer_outputs
from custom_networks.layers.masked_autoencoder import MaskedAutoencoder
from custom_networks.layers.patch_tokens import PatchTokens
from custom_networks.layers.residual_stack import ResidualStack
from custom_networks.layers.rotary import check_rotary, rotation_of
from custom_networks.layers.token_stacks import reading_order, token_stack


class VimMAE(MaskedAutoencoder):
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
        decoder: "mamba" as published, or transformer blocks, "vit".
        decoder_num_heads: attention heads of a "vit" decoder.
        **stack: options of both :class:`~custom_networks.layers.residual_stack.ResidualStack`: ``mixer``,
            ``mixer_options``, ``attention_options``, ``norm``, ``norm_eps``, ``drop_path``, ``rotate_residual``,
            ``scan_order``, ``mlp_ratio``, ``checkpointing``. A "vit" decoder takes the last only.

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
        decoder: str = "mamba",
        decoder_num_heads: int = 16,
        **stack: Any,
    ):
        if decoder == "vit":
            decoder_options = {"checkpointing": stack.get("checkpointing", False)}
        else:
            decoder_options = {"attention_blocks": decoder_attention_blocks, **stack}
        check_rotary(rotary, embed_dim)
        check_rotary(rotary, decoder_dim)
        super().__init__(
            PatchTokens(in_channels, image_size, patch_size, embed_dim, norm=not class_token),
            ResidualStack(embed_dim, depth, attention_blocks=attention_blocks, **stack),
            token_stack(decoder, decoder_dim, decoder_depth, decoder_num_heads, **decoder_options),
            decoder_dim,
            class_token=class_token,
            token_order=token_order,
            decoder_alignment=decoder_alignment,
            mask_ratio=mask_ratio,
            norm_pix=norm_pix,
            loss_on=loss_on,
            skip_constant_patches=skip_constant_patches,
            position_grid=position_grid,
        )
        self.rotary = rotary
        initialize_as_autoencoder(self)
        shrink_mixer_outputs(self, depth)

    def _stack_arguments(self, stack: nn.Module, tokens: torch.Tensor, keep: torch.Tensor | None) -> dict[str, Any]:
        if not isinstance(stack, ResidualStack):
            return {}
        places = range(self.decoder_prefix if keep is None else self.prefix)
        return {
            "rotation": rotation_of(self.rotary, tokens, self.grid, places, keep),
            "order": reading_order(stack, tokens, self.grid, places, keep),
        }
