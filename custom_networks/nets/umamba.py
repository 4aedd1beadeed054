"""U-Mamba: a U-shaped segmentation network with Mamba layers at the bottleneck or along the encoder.

Source: Ma, Li and Wang 2024, "U-Mamba: Enhancing Long-range Dependency for Biomedical Image Segmentation",
arXiv:2401.04722, section 2 and the published networks (2-D and 3-D). Images are (B, in_channels, *spatial) and logits
(B, out_channels, *spatial).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from custom_networks.layers.conv_blocks import (
    CONV,
    NearestUpsample,
    ProjectionResidualBlock,
    ResidualBlock,
    initialize_convolutions,
)
from custom_networks.layers.grid_mixer import GridMixer


def reduced_block_counts(encoder: Sequence[int], decoder: Sequence[int]) -> tuple[list[int], list[int]]:
    """Block counts after U-Mamba's reduction: one block in the deeper half of the encoder and the upper decoder."""
    stages = len(encoder)
    first_single_decoder = math.ceil((stages - 1) / 2 + 0.5)
    return (
        [1 if i >= math.ceil(stages / 2) else n for i, n in enumerate(encoder)],
        [1 if j >= first_single_decoder else n for j, n in enumerate(decoder)],
    )


def _blocks(spatial_dims: int, in_channels: int, out_channels: int, kernel: Sequence[int], stride, count: int):
    first = ProjectionResidualBlock(spatial_dims, in_channels, out_channels, kernel, stride)
    rest = [ResidualBlock(spatial_dims, out_channels, out_channels, kernel) for _ in range(count - 1)]
    return nn.Sequential(first, *rest)


class UMambaEncoder(nn.Module):
    """Stem and stages of residual blocks, each stage followed by a mixer (or nothing).

    The stem works at full resolution, as does the first stage: the published network computes both.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        features_per_stage: Sequence[int],
        kernel_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        block_counts: Sequence[int],
        mixers: Sequence[nn.Module],
    ):
        super().__init__()
        self.stem = _blocks(spatial_dims, in_channels, features_per_stage[0], kernel_sizes[0], 1, block_counts[0])
        previous = [features_per_stage[0], *features_per_stage[:-1]]
        self.stages = nn.ModuleList(
            _blocks(spatial_dims, previous[i], width, kernel_sizes[i], tuple(strides[i]), block_counts[i])
            for i, width in enumerate(features_per_stage)
        )
        self.mixers = nn.ModuleList(mixers)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps of all stages, finest first."""
        x = self.stem(x)
        skips = []
        for stage, mixer in zip(self.stages, self.mixers, strict=True):
            x = mixer(stage(x))
            skips.append(x)
        return skips


class UMambaDecoder(nn.Module):
    """Nearest upsampling, concatenation of the skip, residual blocks and a head at every level.

    Args:
        finest_skip: concatenate the full-resolution skip. The published 2-D networks do not use it.
    """

    def __init__(
        self,
        spatial_dims: int,
        out_channels: int,
        features_per_stage: Sequence[int],
        kernel_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        block_counts: Sequence[int],
        finest_skip: bool,
    ):
        super().__init__()
        self.finest_skip = finest_skip
        self.upsample, self.stages, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        levels = range(len(features_per_stage) - 2, -1, -1)
        for level, count in zip(levels, block_counts, strict=True):
            width = features_per_stage[level]
            merged = 2 * width if level > 0 or finest_skip else width
            self.upsample.append(
                NearestUpsample(spatial_dims, features_per_stage[level + 1], width, strides[level + 1])
            )
            self.stages.append(_blocks(spatial_dims, merged, width, kernel_sizes[level], 1, count))
            self.heads.append(CONV[spatial_dims](width, out_channels, 1))

    def forward(self, skips: list[torch.Tensor], all_levels: bool) -> list[torch.Tensor]:
        """Logits, highest resolution first; only that one unless ``all_levels``."""
        x, logits, last = skips[-1], [], len(self.stages) - 1
        for j, (upsample, stage, head) in enumerate(zip(self.upsample, self.stages, self.heads, strict=True)):
            x = upsample(x)
            if j < last or self.finest_skip:
                x = torch.cat([x, skips[-2 - j]], dim=1)
            x = stage(x)
            if all_levels or j == last:
                logits.insert(0, head(x))
        return logits


class _UMamba(nn.Module):
    """What U-Mamba_Bot and U-Mamba_Enc share: construction from a plan, and the way from image to logits."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        features_per_stage: Sequence[int],
        kernel_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        n_conv_per_stage: Sequence[int],
        n_conv_per_stage_decoder: Sequence[int],
        deep_supervision: bool,
        finest_skip: bool | None,
        mixers: Sequence[nn.Module],
        bottleneck: nn.Module,
    ):
        super().__init__()
        stages = len(features_per_stage)
        lengths = {"kernel_sizes": kernel_sizes, "strides": strides, "n_conv_per_stage": n_conv_per_stage}
        for name, value in lengths.items():
            if len(value) != stages:
                raise ValueError(f"{name} has {len(value)} entries for {stages} stages")
        if len(n_conv_per_stage_decoder) != stages - 1:
            raise ValueError(f"n_conv_per_stage_decoder has {len(n_conv_per_stage_decoder)} entries, not {stages - 1}")
        encoder_blocks, decoder_blocks = reduced_block_counts(n_conv_per_stage, n_conv_per_stage_decoder)
        self.deep_supervision = deep_supervision
        self.encoder = UMambaEncoder(
            spatial_dims, in_channels, features_per_stage, kernel_sizes, strides, encoder_blocks, mixers
        )
        self.bottleneck = bottleneck
        self.decoder = UMambaDecoder(
            spatial_dims,
            out_channels,
            features_per_stage,
            kernel_sizes,
            strides,
            decoder_blocks,
            spatial_dims == 3 if finest_skip is None else finest_skip,
        )
        initialize_convolutions(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Logits of the image; a list, highest resolution first, while ``deep_supervision`` is set."""
        skips = self.encoder(x)
        skips[-1] = self.bottleneck(skips[-1])
        logits = self.decoder(skips, self.deep_supervision)
        return logits if self.deep_supervision else logits[0]


class UMambaBot(_UMamba):
    """U-Mamba_Bot: one Mamba layer, on the patch tokens of the bottleneck.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels.
        out_channels: classes including background (or regions).
        features_per_stage: width of every stage, finest first.
        kernel_sizes: kernel of every stage, one number an axis.
        strides: stride at the entry of every stage, one number an axis; ones for the first.
        n_conv_per_stage: blocks of every encoder stage as planned, before U-Mamba's reduction.
        n_conv_per_stage_decoder: blocks of every decoder level as planned, lowest resolution first.
        deep_supervision: return the logits of every decoder level. May be switched at run time.
        mixer: "mamba", "mamba2", or "none" for the same network without any state-space layer.
        residual: add the input of the Mamba layer to its output (the published networks do not).
        finest_skip: use the full-resolution skip; None follows the published networks (3-D yes, 2-D no).
        mixer_options: further arguments of the mixer, such as ``d_state``.

    Raises:
        ValueError: if the lists disagree in length or the mixer is unknown.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        features_per_stage: Sequence[int],
        kernel_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        n_conv_per_stage: Sequence[int],
        n_conv_per_stage_decoder: Sequence[int],
        deep_supervision: bool = False,
        mixer: str = "mamba",
        residual: bool = False,
        finest_skip: bool | None = None,
        mixer_options: dict | None = None,
    ):
        bottleneck = (
            nn.Identity()
            if mixer == "none"
            else GridMixer(features_per_stage[-1], mixer, residual=residual, options=mixer_options)
        )
        super().__init__(
            spatial_dims,
            in_channels,
            out_channels,
            features_per_stage,
            kernel_sizes,
            strides,
            n_conv_per_stage,
            n_conv_per_stage_decoder,
            deep_supervision,
            finest_skip,
            [nn.Identity() for _ in features_per_stage],
            bottleneck,
        )


def encoder_token_layout(
    input_size: Sequence[int], features_per_stage: Sequence[int], strides: Sequence[Sequence[int]]
) -> list[tuple[str, int]]:
    """Token layout ("patch" or "channel") and token width of every stage of U-Mamba_Enc.

    Raises:
        ValueError: if an axis of ``input_size`` does not divide by its strides while a stage uses channel tokens, whose
            width is the exact number of grid positions.
    """
    size, layout = list(input_size), []
    for width, stride in zip(features_per_stage, strides, strict=True):
        divides = all(s % k == 0 for s, k in zip(size, stride, strict=True))
        size = [s // k for s, k in zip(size, stride, strict=True)]
        channel = math.prod(size) <= width
        if channel and not divides:
            raise ValueError(
                f"input_size {tuple(input_size)} is not divisible by the strides: stage {len(layout)} uses channel "
                "tokens, which need the exact grid size"
            )
        layout.append(("channel", math.prod(size)) if channel else ("patch", width))
    return layout


class UMambaEnc(_UMamba):
    """U-Mamba_Enc: Mamba layers along the encoder; after every stage in 3-D, after every second one in 2-D.

    A stage with no more grid positions than channels takes its channels as tokens, which fixes the image size: such a
    network runs on exactly ``input_size``.

    Args:
        input_size: size of the image (the planned patch), one number an axis.

    The other arguments and errors are those of `UMambaBot`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        input_size: Sequence[int],
        features_per_stage: Sequence[int],
        kernel_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        n_conv_per_stage: Sequence[int],
        n_conv_per_stage_decoder: Sequence[int],
        deep_supervision: bool = False,
        mixer: str = "mamba",
        residual: bool = False,
        finest_skip: bool | None = None,
        mixer_options: dict | None = None,
    ):
        stages = len(features_per_stage)
        mixers: list[nn.Module] = [nn.Identity() for _ in range(stages)]
        if mixer != "none":
            for i, (tokens, dim) in enumerate(encoder_token_layout(input_size, features_per_stage, strides)):
                if spatial_dims == 3 or (i - stages) % 2 == 1:
                    mixers[i] = GridMixer(dim, mixer, tokens, residual, mixer_options)
        super().__init__(
            spatial_dims,
            in_channels,
            out_channels,
            features_per_stage,
            kernel_sizes,
            strides,
            n_conv_per_stage,
            n_conv_per_stage_decoder,
            deep_supervision,
            finest_skip,
            mixers,
            nn.Identity(),
        )
