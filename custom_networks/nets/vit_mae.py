"""Masked autoencoder with vision transformers, for images and volumes.

Source: He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners"; as the baseline of Hu et al. 2024,
arXiv:2409.07746; Kang et al. 2023, arXiv:2306.08249 (Deblurring MAE). Letters: B batch, L patches, C width.
"""

from __future__ import annotations

from collections.abc import Sequence

from custom_networks.layers.initialization import initialize_as_autoencoder
from custom_networks.layers.masked_autoencoder import MaskedAutoencoder
from custom_networks.layers.patch_tokens import PatchTokens
from custom_networks.layers.vit_block import ViTStack


class ViTMAE(MaskedAutoencoder):
    """Masked autoencoder of pre-normalized transformer blocks with a class token.

    The published MAE has ``norm_pix=False`` and ``loss_on="hidden"``. The published Deblurring MAE has
    ``loss_on="all"``; its input is a blurred image and its ``target_image`` the original one.

    Args:
        in_channels: image channels.
        image_size: pixels along every axis; its length is the number of spatial dimensions.
        patch_size: one number, or one an axis.
        embed_dim: width of the encoder.
        depth: blocks of the encoder.
        num_heads: attention heads of the encoder.
        decoder_dim: width of the decoder.
        decoder_depth: blocks of the decoder.
        decoder_num_heads: attention heads of the decoder.
        token_order: order in which visible tokens are fed; no output depends on it beyond rounding.
        mask_ratio: part of the patches that is hidden.
        norm_pix: predict standardized patches.
        loss_on: "hidden" patches or "all".
        skip_constant_patches: leave patches without contrast out of the loss.
        position_grid: grid that the position tables are computed for and then interpolated from; None for the own grid.
        **stack: options of both :class:`~custom_networks.layers.vit_block.ViTStack`: ``mlp_ratio``, ``qkv_bias``,
            ``norm_eps``, ``drop_path``, ``checkpointing``.

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
        num_heads: int = 12,
        decoder_dim: int = 192,
        decoder_depth: int = 8,
        decoder_num_heads: int = 16,
        token_order: str = "shuffle",
        mask_ratio: float = 0.75,
        norm_pix: bool = True,
        loss_on: str = "hidden",
        skip_constant_patches: bool = False,
        position_grid: Sequence[int] | None = None,
        **stack: object,
    ):
        super().__init__(
            PatchTokens(in_channels, image_size, patch_size, embed_dim, norm=False),
            ViTStack(embed_dim, depth, num_heads, **stack),
            ViTStack(decoder_dim, decoder_depth, decoder_num_heads, **stack),
            decoder_dim,
            class_token=True,
            token_order=token_order,
            decoder_alignment="aligned",
            mask_ratio=mask_ratio,
            norm_pix=norm_pix,
            loss_on=loss_on,
            skip_constant_patches=skip_constant_patches,
            position_grid=position_grid,
        )
        initialize_as_autoencoder(self)
