"""Segmentation heads on a pyramid of maps: UPerNet's head and its auxiliary head.

Source: Xiao et al. 2018, "Unified Perceptual Parsing for Scene Understanding"; Zhao et al. 2017, "Pyramid Scene Parsing
Network"; options as in mmsegmentation's UPerHead and FCNHead. Maps are (B, channels, height, width), the finest first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import nn


def conv_norm_relu(in_channels: int, out_channels: int, kernel_size: int) -> Convolution:
    """Convolution without bias and with "same" padding, batch normalization, ReLU."""
    return Convolution(
        2, in_channels, out_channels, kernel_size=kernel_size, adn_ordering="NA", act="RELU", norm="BATCH", bias=False
    )


def resize(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear interpolation between pixel centers to (height, width)."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class UPerHead(nn.Module):
    """Pools the coarsest map at several scales, adds finer maps on the way down, and joins all levels.

    Args:
        in_channels: channels of the maps.
        channels: width of the head.
        out_channels: classes.
        pool_scales: sides of the grids to which the coarsest map is pooled.
        dropout: rate of dropped channels before the last layer.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 768,
        out_channels: int = 2,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.1,
    ):
        super().__init__()
        *finer, coarsest = in_channels
        self.pool_scales = tuple(pool_scales)
        self.pooled = nn.ModuleList(conv_norm_relu(coarsest, channels, 1) for _ in pool_scales)
        self.pooled_fusion = conv_norm_relu(coarsest + len(self.pooled) * channels, channels, 3)
        self.laterals = nn.ModuleList(conv_norm_relu(width, channels, 1) for width in finer)
        self.smoothing = nn.ModuleList(conv_norm_relu(channels, channels, 3) for _ in finer)
        self.fusion = conv_norm_relu(len(in_channels) * channels, channels, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, out_channels, 1)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Logits (B, out_channels, …) of the size of the finest map."""
        *finer, coarsest = maps
        context = [coarsest] + [
            resize(conv(F.adaptive_avg_pool2d(coarsest, scale)), coarsest.shape[2:])
            for scale, conv in zip(self.pool_scales, self.pooled, strict=True)
        ]
        levels = [conv(x) for conv, x in zip(self.laterals, finer, strict=True)]
        levels.append(self.pooled_fusion(torch.cat(context, dim=1)))
        for i in reversed(range(len(finer))):
            levels[i] = levels[i] + resize(levels[i + 1], levels[i].shape[2:])
        smooth = [conv(x) for conv, x in zip(self.smoothing, levels, strict=False)] + levels[-1:]
        joined = torch.cat([smooth[0]] + [resize(x, smooth[0].shape[2:]) for x in smooth[1:]], dim=1)
        return self.classifier(self.dropout(self.fusion(joined)))


class ConvHead(nn.Module):
    """One 3x3 convolution and a classifier on one map, (B, in_channels, …) to logits (B, out_channels, …).

    Args:
        in_channels: channels of the map.
        channels: width of the head.
        out_channels: classes.
        dropout: rate of dropped channels before the last layer.
    """

    def __init__(self, in_channels: int, channels: int = 256, out_channels: int = 2, dropout: float = 0.1):
        super().__init__()
        self.conv = conv_norm_relu(in_channels, channels, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the size of the map."""
        return self.classifier(self.dropout(self.conv(x)))
