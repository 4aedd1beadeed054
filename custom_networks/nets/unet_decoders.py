"""U-Net and U-Net++ on a pyramid of a token encoder.

Source: Ronneberger et al. 2015, "U-Net"; Zhou et al. 2018, "UNet++"; with ConvViT and ViT encoders as in Kang et al.
2023, arXiv:2306.08249 (Deblurring MAE).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from custom_networks.layers.pyramid_heads import resize
from custom_networks.layers.unet_blocks import UNetDecoder, UNetPlusPlusDecoder
from custom_networks.nets.token_pyramids import token_pyramid


class PyramidUNet(nn.Module):
    """Token encoder, decoder of one of the two kinds below, and a convolution to logits, for 2-D images.

    Args:
        encoder: name of the encoder, one of :data:`custom_networks.nets.token_pyramids.ENCODERS`.
        in_channels: image channels.
        out_channels: logits; a single one is meant for a sigmoid.
        image_size: (height, width).
        channels: channels of the four levels of the decoder.
        full_size: interpolate the logits bilinearly to the size of the image. The published networks do not, and give
            half of it.
        **encoder_options: options of the encoder.

    Raises:
        ValueError: for sizes or options that do not fit together.
    """

    decoder_type: type[nn.Module]

    def __init__(
        self,
        encoder: str = "conv_vit",
        in_channels: int = 3,
        out_channels: int = 1,
        image_size: Sequence[int] = (512, 512),
        channels: Sequence[int] = (256, 128, 64, 32),
        full_size: bool = True,
        **encoder_options: Any,
    ):
        super().__init__()
        self.full_size = full_size
        self.backbone = token_pyramid(encoder, in_channels=in_channels, image_size=image_size, **encoder_options)
        self.decoder = self.decoder_type(self.backbone.channels, channels)
        self.head = nn.Conv2d(channels[-1], out_channels, 3, padding=1)
        for layer in self.decoder.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight, mode="fan_in", nonlinearity="relu")
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of images (B, in_channels, height, width), of their size, or half of it if not ``full_size``."""
        logits = self.head(self.decoder(self.backbone(image)))
        return resize(logits, image.shape[2:]) if self.full_size else logits


class UNet(PyramidUNet):
    """U-Net on a token encoder; arguments as for `PyramidUNet`."""

    decoder_type = UNetDecoder


class UNetPlusPlus(PyramidUNet):
    """U-Net++ on a token encoder; arguments as for `PyramidUNet`."""

    decoder_type = UNetPlusPlusDecoder
