"""U-Mamba2: a residual-encoder U-Net with a Mamba layer, and optionally user clicks, at the bottleneck.

Source: Tan et al. 2025, "U-Mamba2: Scaling State Space Models for Dental Anatomy Segmentation in CBCT",
arXiv:2509.12069; backbone: residual-encoder U-Net of nnU-Net (Isensee et al. 2024, arXiv:2404.09556). Images are
(B, in_channels, D, H, W) and logits (B, out_channels, D, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from custom_networks.layers.click_mixers import (
    AppendedClickMixer,
    Clicks,
    CrossAttentionClickMixer,
    PositionCodedMixer,
)
from custom_networks.layers.conv_blocks import CONV, TRANSPOSED_CONV, ConvNorm, ResidualBlock, initialize_convolutions
from custom_networks.layers.grid_mixer import GridMixer

BOTTLENECKS = ("none", "mamba", "mamba2", "mamba2_pe", "mamba2_click", "mamba2_cross_click", "mamba2_cross_click2")


def _bottleneck(
    kind: str, dim: int, patch_size: Sequence[int] | None, click_labels: int, options: dict | None
) -> nn.Module:
    if kind not in BOTTLENECKS:
        raise ValueError(f"bottleneck must be one of {BOTTLENECKS}, got {kind!r}")
    if "click" in kind and patch_size is None:
        raise ValueError(f"bottleneck {kind!r} needs patch_size, which the clicks' coordinates refer to")
    match kind:
        case "none":
            return nn.Identity()
        case "mamba":
            return GridMixer(dim, "mamba", options=options)
        case "mamba2":
            return GridMixer(dim, "mamba2", options=options)
        case "mamba2_pe":
            return PositionCodedMixer(dim, options)
        case "mamba2_click":
            return AppendedClickMixer(dim, patch_size, options, click_labels)
        case "mamba2_cross_click":
            return CrossAttentionClickMixer(dim, patch_size, 1, mlp_channels=512, options=options, labels=click_labels)
        case _:
            return CrossAttentionClickMixer(dim, patch_size, 2, mlp_channels=1024, options=options, labels=click_labels)


class ResidualEncoder(nn.Module):
    """Stem convolution and stages of residual blocks; returns the feature maps of all stages, finest first."""

    def __init__(self, spatial_dims, in_channels, features_per_stage, kernel_sizes, strides, n_blocks_per_stage):
        super().__init__()
        self.stem = ConvNorm(spatial_dims, in_channels, features_per_stage[0], kernel_sizes[0])
        previous = [features_per_stage[0], *features_per_stage[:-1]]
        self.stages = nn.ModuleList(
            nn.Sequential(
                ResidualBlock(spatial_dims, previous[i], width, kernel_sizes[i], tuple(strides[i])),
                *(ResidualBlock(spatial_dims, width, width, kernel_sizes[i]) for _ in range(n_blocks_per_stage[i] - 1)),
            )
            for i, width in enumerate(features_per_stage)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps of all stages."""
        x, skips = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips


class ResidualUNetDecoder(nn.Module):
    """Transposed convolution, concatenation of the skip, plain convolutions and a head at every level."""

    def __init__(self, spatial_dims, out_channels, features_per_stage, kernel_sizes, strides, n_conv_per_stage):
        super().__init__()
        self.upsample, self.stages, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        levels = range(len(features_per_stage) - 2, -1, -1)
        for level, count in zip(levels, n_conv_per_stage, strict=True):
            width, below, stride = features_per_stage[level], features_per_stage[level + 1], tuple(strides[level + 1])
            self.upsample.append(TRANSPOSED_CONV[spatial_dims](below, width, stride, stride))
            convs = [
                ConvNorm(spatial_dims, 2 * width if c == 0 else width, width, kernel_sizes[level]) for c in range(count)
            ]
            self.stages.append(nn.Sequential(*convs))
            self.heads.append(CONV[spatial_dims](width, out_channels, 1))

    def forward(self, skips: list[torch.Tensor], all_levels: bool) -> list[torch.Tensor]:
        """Logits, highest resolution first; only that one unless ``all_levels``."""
        x, logits, last = skips[-1], [], len(self.stages) - 1
        for j, (upsample, stage, head) in enumerate(zip(self.upsample, self.stages, self.heads, strict=True)):
            x = stage(torch.cat([upsample(x), skips[-2 - j]], dim=1))
            if all_levels or j == last:
                logits.insert(0, head(x))
        return logits


class UMamba2(nn.Module):
    """Residual-encoder U-Net with a choice of bottleneck layers.

    Args:
        spatial_dims: 3 for the published networks; 2 works for bottlenecks without clicks or position code.
        in_channels: image channels.
        out_channels: classes including background.
        features_per_stage: width of every stage, finest first.
        kernel_sizes: kernel of every stage, one number an axis.
        strides: stride at the entry of every stage, one number an axis.
        n_blocks_per_stage: residual blocks of every encoder stage.
        n_conv_per_stage_decoder: convolutions of every decoder level, lowest resolution first.
        deep_supervision: return the logits of every decoder level. May be switched at run time.
        bottleneck: one of `BOTTLENECKS`; "mamba2" is U-Mamba2, "mamba2_cross_click2" the published interactive network.
        patch_size: image size in voxels, needed with clicks.
        click_labels: number of labels that clicks may have; 2, the left and the right canal, in the published network.
        mixer_options: further arguments of the Mamba layer.

    Raises:
        ValueError: for an unknown bottleneck, or clicks without ``patch_size``.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        features_per_stage: Sequence[int],
        kernel_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        n_blocks_per_stage: Sequence[int],
        n_conv_per_stage_decoder: Sequence[int],
        deep_supervision: bool = False,
        bottleneck: str = "mamba2",
        patch_size: Sequence[int] | None = None,
        click_labels: int = 2,
        mixer_options: dict | None = None,
    ):
        super().__init__()
        self.deep_supervision = deep_supervision
        self.encoder = ResidualEncoder(
            spatial_dims, in_channels, features_per_stage, kernel_sizes, strides, n_blocks_per_stage
        )
        self.bottleneck = _bottleneck(bottleneck, features_per_stage[-1], patch_size, click_labels, mixer_options)
        self.bottleneck_name, self.takes_clicks = bottleneck, "click" in bottleneck
        self.decoder = ResidualUNetDecoder(
            spatial_dims, out_channels, features_per_stage, kernel_sizes, strides, n_conv_per_stage_decoder
        )
        initialize_convolutions(self)
        for block in self.modules():
            if isinstance(block, ResidualBlock):
                nn.init.zeros_(block.conv2.norm.weight)
                nn.init.zeros_(block.conv2.norm.bias)

    def forward(self, x: torch.Tensor, clicks: Clicks | None = None) -> torch.Tensor | list[torch.Tensor]:
        """Logits of the image; a list, highest resolution first, while ``deep_supervision`` is set.

        Args:
            x: image (B, in_channels, *spatial).
            clicks: coordinates (B, K, 3) and labels (B, K), for networks with a click bottleneck.
        """
        skips = self.encoder(x)
        skips[-1] = self.bottleneck(skips[-1], clicks) if self.takes_clicks else self.bottleneck(skips[-1])
        logits = self.decoder(skips, self.deep_supervision)
        return logits if self.deep_supervision else logits[0]
