"""UPerNet on a pyramid of a token encoder.

Source: Xiao et al. 2018, "Unified Perceptual Parsing for Scene Understanding"; with a ConvViT encoder as in Kang et al.
2023, arXiv:2306.08249 (Deblurring MAE).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from custom_networks.layers.pyramid_heads import ConvHead, UPerHead, resize
from custom_networks.nets.token_pyramids import token_pyramid


class UPerNet(nn.Module):
    """Segmentation of 2-D images.

    The pooled branch of scale 1 normalizes over the batch alone: training needs batches of two or more.

    Args:
        encoder: name of the encoder, one of :data:`custom_networks.nets.token_pyramids.ENCODERS`.
        in_channels: image channels.
        out_channels: classes.
        image_size: (height, width).
        channels: width of the head.
        pool_scales: sides of the grids to which the coarsest map is pooled.
        dropout: rate of dropped channels before the last layer of each head.
        auxiliary_channels: width of the auxiliary head on the third map; 0 for none.
        **encoder_options: options of the encoder. ``coarsest_padding`` of convolutional ones is 0, as published.

    Raises:
        ValueError: for sizes or options that do not fit together.
    """

    def __init__(
        self,
        encoder: str = "conv_vit",
        in_channels: int = 3,
        out_channels: int = 2,
        image_size: Sequence[int] = (512, 512),
        channels: int = 768,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.1,
        auxiliary_channels: int = 256,
        **encoder_options: Any,
    ):
        super().__init__()
        if encoder.startswith("conv"):
            encoder_options = {"coarsest_padding": 0} | encoder_options
        self.backbone = token_pyramid(encoder, in_channels=in_channels, image_size=image_size, **encoder_options)
        self.head = UPerHead(self.backbone.channels, channels, out_channels, pool_scales, dropout)
        self.auxiliary_head = (
            ConvHead(self.backbone.channels[2], auxiliary_channels, out_channels, dropout)
            if auxiliary_channels
            else None
        )

    def head_logits(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Logits of the head, at stride 4, and of the auxiliary head if there is one, at stride 16."""
        maps = self.backbone(image)
        auxiliary = [] if self.auxiliary_head is None else [self.auxiliary_head(maps[2])]
        return [self.head(maps), *auxiliary]

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Logits (B, out_channels, height, width) of images (B, in_channels, height, width).

        In training mode a list: the logits, and those of the auxiliary head, if there is one.
        """
        if self.training and self.auxiliary_head is not None:
            return [resize(logits, image.shape[2:]) for logits in self.head_logits(image)]
        return resize(self.head(self.backbone(image)), image.shape[2:])
