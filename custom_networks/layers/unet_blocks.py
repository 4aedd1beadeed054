"""Decoders of U-Net and U-Net++ on a pyramid of maps.

Source: Ronneberger et al. 2015, "U-Net"; Zhou et al. 2018, "UNet++"; blocks as in segmentation_models_pytorch. Maps are
(B, channels, height, width), the finest first; every map has about twice the height and width of the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from custom_networks.layers.pyramid_heads import conv_norm_relu


class UpsamplingBlock(nn.Module):
    """Enlarges a map (nearest neighbour), joins it with others, and applies two convolutions.

    Args:
        in_channels: channels of the map.
        skip_channels: channels of all that is joined; 0 for nothing.
        out_channels: channels of the result.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = conv_norm_relu(in_channels + skip_channels, out_channels, 3)
        self.conv2 = conv_norm_relu(out_channels, out_channels, 3)

    def forward(self, x: torch.Tensor, skips: Sequence[torch.Tensor] = ()) -> torch.Tensor:
        """Map of the size of the skips, or of twice the height and width if there are none."""
        size = skips[0].shape[2:] if skips else [2 * side for side in x.shape[2:]]
        x = F.interpolate(x, size=tuple(size), mode="nearest")
        return self.conv2(self.conv1(torch.cat([x, *skips], dim=1)))


def _check(in_channels: Sequence[int], channels: Sequence[int]) -> None:
    if len(in_channels) != len(channels):
        raise ValueError(f"{len(channels)} decoder levels for {len(in_channels)} maps: one level a map is needed")


class UNetDecoder(nn.Module):
    """From the coarsest map upwards, joined with one finer map a level; one last level without.

    Args:
        in_channels: channels of the maps.
        channels: channels of the levels, coarsest first; as many as maps.

    Raises:
        ValueError: if the numbers of maps and levels differ.
    """

    def __init__(self, in_channels: Sequence[int], channels: Sequence[int]):
        super().__init__()
        _check(in_channels, channels)
        *skips, coarsest = in_channels
        self.blocks = nn.ModuleList(
            UpsamplingBlock(before, skip, after)
            for before, skip, after in zip([coarsest, *channels], [*skips[::-1], 0], channels, strict=False)
        )

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Map of ``channels[-1]`` channels at half the stride of the finest map."""
        *finer, x = maps
        for block, skip in zip(self.blocks, [*finer[::-1], None], strict=True):
            x = block(x, [] if skip is None else [skip])
        return x


class UNetPlusPlusDecoder(nn.Module):
    """A grid of blocks: block (d, l) sees its left neighbour, all lower blocks of its level, and the encoder's map.

    Level l has the resolution of the l-th map from below, without the coarsest; d counts from 0 at the block whose
    left neighbours reach down to the coarsest map.

    Args:
        in_channels: channels of the maps.
        channels: channels of the blocks (0, l) and of the last one; as many as maps.

    Raises:
        ValueError: if the numbers of maps and levels differ.
    """

    def __init__(self, in_channels: Sequence[int], channels: Sequence[int]):
        super().__init__()
        _check(in_channels, channels)
        coarsest, *skips = in_channels[::-1]
        self.levels, blocks = len(skips), {}
        width = {}
        for level in range(self.levels):
            for d in range(level, -1, -1):
                before = ([coarsest, *skips][level]) if d == level else width[d, level - 1]
                width[d, level] = channels[level] if d == 0 else skips[level]
                joined = skips[level] * (level - d + 1)
                blocks[f"{d}_{level}"] = UpsamplingBlock(before, joined, width[d, level])
        blocks[f"0_{self.levels}"] = UpsamplingBlock(channels[-2] if self.levels else coarsest, 0, channels[-1])
        self.blocks = nn.ModuleDict(blocks)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Map of ``channels[-1]`` channels at half the stride of the finest map."""
        coarsest, *skips = list(maps)[::-1]
        done, x = {}, coarsest
        for level, skip in enumerate(skips):
            for d in range(level, -1, -1):
                before = ([coarsest, *skips][level]) if d == level else done[d, level - 1]
                lower = [done[i, level] for i in range(d + 1, level + 1)]
                x = done[d, level] = self.blocks[f"{d}_{level}"](before, [*lower, skip])
        return self.blocks[f"0_{self.levels}"](x)
