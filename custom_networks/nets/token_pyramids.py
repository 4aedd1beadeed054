"""Token encoders that give a pyramid of maps at strides 4, 8, 16 and 32, for segmentation networks.

Source: segmentation networks of Kang et al. 2023, arXiv:2306.08249 (Deblurring MAE), after ConvMAE and BEiT. Letters: B
batch, L patches, C width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from custom_networks.layers.conv_tokens import ConvTokens
from custom_networks.layers.drop_path_rates import drop_path_rates
from custom_networks.layers.initialization import initialize_as_classifier, shrink_mixer_outputs
from custom_networks.layers.patch_tokens import PatchTokens, whole_patch_grid
from custom_networks.layers.residual_stack import ResidualStack
from custom_networks.layers.rotary import check_rotary, rotation_of
from custom_networks.layers.sincos_positions import resample_table, sincos_table
from custom_networks.layers.token_stacks import reading_order, stack_features, stack_options, token_stack
from custom_networks.layers.vit_block import ViTStack


def shrink_branches(stack: nn.Module) -> None:
    """Divides the last linear layers of both branches of block i (from 1) by the root of 2i, as published."""
    if isinstance(stack, ViTStack):
        with torch.no_grad():
            for i, block in enumerate(stack.blocks, start=1):
                block.attention.out_proj.weight.div_(math.sqrt(2 * i))
                block.mlp.linear2.weight.div_(math.sqrt(2 * i))


class ConvViTPyramid(nn.Module):
    """Maps of two convolution stages, of the token stage, and of a convolution of stride 2 after it.

    Parts that are pre-trained are named as in :class:`~custom_networks.nets.conv_mae.ConvMAE`.

    Args:
        in_channels: image channels.
        image_size: (height, width).
        patch_sizes: factor by which each stage reduces the height and the width.
        embed_dims: channels of the three stages.
        depths: blocks of the three stages.
        num_heads: attention heads of the third stage.
        mlp_ratios: MLP widths of the three stages in units of their channels.
        encoder: third stage of transformer blocks, "vit", or of bidirectional state-space blocks, "mamba".
        absolute_positions: add a learned position table to the tokens.
        drop_path: rate of stochastic depth of the last block, from 0 at the first block of the first stage.
        coarsest_padding: padding of the convolution that makes the fourth map: published are 0 in the UPerNet (32 x 32
            patches become 15 x 15) and 1 in the U-Nets (16 x 16).
        **stack: further options of the third stage. "vit" defaults to the published ``norm_eps=1e-5``,
            ``relative_positions="each_block"`` and ``layer_scale=1.0``.

    Attributes:
        channels: channels of the four maps.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: Sequence[int] = (512, 512),
        patch_sizes: Sequence[int] = (4, 2, 2),
        embed_dims: Sequence[int] = (256, 384, 768),
        depths: Sequence[int] = (2, 2, 11),
        num_heads: int = 12,
        mlp_ratios: Sequence[float] = (4.0, 4.0, 4.0),
        encoder: str = "vit",
        absolute_positions: bool = True,
        drop_path: float = 0.2,
        coarsest_padding: int = 1,
        **stack: Any,
    ):
        super().__init__()
        rates, first = drop_path_rates(drop_path, sum(depths)), sum(depths[:2])
        self.patch_embedding = ConvTokens(
            in_channels, image_size, patch_sizes, embed_dims, depths[:2], mlp_ratios[:2], rates[:first]
        )
        self.grid, self.prefix, width = self.patch_embedding.grid, 0, embed_dims[-1]
        self.patch_size = self.patch_embedding.patch_size
        self.position_embedding = (
            nn.Parameter(torch.empty(1, self.patch_embedding.patches, width)) if absolute_positions else None
        )
        published = {"norm_eps": 1e-5, "relative_positions": "each_block", "layer_scale": 1.0, "grid": self.grid}
        options = published | {"final_norm": False} if encoder == "vit" else {}
        options |= stack_options(encoder, mlp_ratios[-1], stack) | {"drop_path": rates[first:]}
        self.encoder = token_stack(encoder, width, depths[-1], num_heads, **options)
        if encoder == "mamba":
            self.encoder.norm = nn.Identity()
        self.coarsest = nn.Sequential(
            nn.Conv2d(width, width, 3, stride=2, padding=coarsest_padding), nn.BatchNorm2d(width), nn.GELU()
        )
        self.channels = [*embed_dims, width]

        initialize_as_classifier(self)
        shrink_branches(self.encoder)
        shrink_mixer_outputs(self, depths[-1])
        if self.position_embedding is not None:
            nn.init.trunc_normal_(self.position_embedding, std=0.02)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Four maps of an image (B, in_channels, *image_size), the finest first."""
        first, second, tokens = self._encoded(image)
        third = tokens.transpose(1, 2).unflatten(2, self.grid)
        return [first, second, third, self.coarsest(third)]

    def token_features(self, image: torch.Tensor, blocks: int | None = None) -> torch.Tensor:
        """Tokens (B, L, C) in raster order after the third stage, or its first ``blocks``, for maps."""
        return self._encoded(image, blocks)[2]

    def _encoded(self, image: torch.Tensor, blocks: int | None = None) -> tuple[torch.Tensor, ...]:
        first, second, tokens = self.patch_embedding.maps(image)
        if self.position_embedding is not None:
            tokens = tokens + self.position_embedding
        return first, second, stack_features(self.encoder, tokens, self.grid, blocks=blocks)


def check_taps(taps: Sequence[int], depth: int) -> list[int]:
    """Indices of the four blocks whose output is used.

    Raises:
        ValueError: if they are not four, not ascending, or some block does not exist.
    """
    if len(taps) != 4 or list(taps) != sorted(set(taps)) or taps[0] < 0 or taps[-1] >= depth:
        raise ValueError(f"taps must be four ascending indices of the {depth} blocks, got {list(taps)}")
    return list(taps)


def token_scales(patch_size: int, width: int) -> nn.ModuleList:
    """Layers that bring four maps at the stride of the patches to the strides 4, 8, 16 and 32.

    Raises:
        ValueError: for a patch size other than 8 and 16.
    """

    def up() -> nn.Module:
        return nn.ConvTranspose2d(width, width, 2, stride=2)

    if patch_size == 16:
        finest = nn.Sequential(up(), nn.BatchNorm2d(width), nn.GELU(), up())
        return nn.ModuleList([finest, nn.Sequential(up()), nn.Identity(), nn.MaxPool2d(2)])
    if patch_size == 8:
        return nn.ModuleList([nn.Sequential(up()), nn.Identity(), nn.MaxPool2d(2), nn.MaxPool2d(4)])
    raise ValueError(f"a pyramid of tokens needs patches of 8 or 16 pixels, got {patch_size}")


class ViTPyramid(nn.Module):
    """Four blocks of a vision transformer with a class token, each brought to its stride.

    Parts that are pre-trained are named as in :class:`~custom_networks.nets.vit_mae.ViTMAE`.

    Args:
        in_channels: image channels.
        image_size: (height, width).
        patch_size: 8 or 16.
        embed_dim: width C.
        depth: number of blocks.
        num_heads: attention heads.
        taps: indices of the four blocks whose output is used, from 0.
        absolute_positions: add a learned position table to the tokens.
        drop_path: rate of stochastic depth of the last block.
        **stack: further options of :class:`~custom_networks.layers.vit_block.ViTStack`, with the published defaults
            ``norm_eps=1e-6``, ``relative_positions="each_block"`` and ``layer_scale=1.0``.

    Attributes:
        channels: channels of the four maps.

    Raises:
        ValueError: for sizes or options that do not fit together.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: Sequence[int] = (512, 512),
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        taps: Sequence[int] = (3, 5, 7, 11),
        absolute_positions: bool = True,
        drop_path: float = 0.1,
        **stack: Any,
    ):
        super().__init__()
        self.taps, self.prefix = check_taps(taps, depth), 1
        self.patch_embedding = PatchTokens(in_channels, image_size, patch_size, embed_dim, norm=False)
        self.grid, self.patch_size = self.patch_embedding.grid, self.patch_embedding.patch_size
        self.class_token = nn.Parameter(torch.empty(1, 1, embed_dim))
        self.position_embedding = (
            nn.Parameter(torch.empty(1, self.patch_embedding.patches + 1, embed_dim)) if absolute_positions else None
        )
        published = {"relative_positions": "each_block", "layer_scale": 1.0, "drop_path": drop_path}
        self.encoder = ViTStack(
            embed_dim, depth, num_heads, final_norm=False, grid=self.grid, class_token=True, **published | stack
        )
        self.scales = token_scales(patch_size, embed_dim)
        self.channels = [embed_dim] * 4

        initialize_as_classifier(self)
        shrink_branches(self.encoder)
        for parameter in (self.class_token, self.position_embedding):
            if parameter is not None:
                nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Four maps (B, C, …) of an image (B, in_channels, *image_size), the finest first."""
        maps = [tap.transpose(1, 2).unflatten(2, self.grid) for tap in self._tapped(image)]
        return [scale(x) for scale, x in zip(self.scales, maps, strict=True)]

    def token_features(self, image: torch.Tensor, blocks: int | None = None) -> torch.Tensor:
        """Output of the last block that is used, (B, L, C) in raster order, for maps; ``blocks``: the first few."""
        return self._tapped(image, None if blocks is None else [blocks - 1])[-1]

    def _tapped(self, image: torch.Tensor, taps: Sequence[int] | None = None) -> list[torch.Tensor]:
        tokens = self.patch_embedding(image)
        tokens = torch.cat([self.class_token.to(tokens.dtype).expand(tokens.shape[0], -1, -1), tokens], dim=1)
        if self.position_embedding is not None:
            tokens = tokens + self.position_embedding
        return [tap[:, 1:] for tap in self.encoder.taps(tokens, self.taps if taps is None else taps)]


class VimPyramid(nn.Module):
    """Four blocks of a bidirectional state-space encoder, each brought to its stride; images may have any size.

    Parts that are pre-trained are named as in :class:`~custom_networks.nets.vim_mae.VimMAE`. The position table is
    interpolated to the grid of the image.

    Args:
        in_channels: image channels.
        image_size: (height, width) that the position table belongs to.
        patch_size: 8 or 16; must divide the sizes of all images.
        embed_dim: width C.
        depth: number of blocks.
        taps: indices of the four blocks whose output is used, from 0.
        rotary: one of :data:`custom_networks.layers.rotary.KINDS`, as in pre-training.
        **stack: further options of :class:`~custom_networks.layers.residual_stack.ResidualStack`.

    Attributes:
        channels: channels of the four maps.

    Raises:
        ValueError: for sizes or options that do not fit together.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: Sequence[int] = (512, 512),
        patch_size: int = 16,
        embed_dim: int = 384,
        depth: int = 12,
        taps: Sequence[int] = (3, 5, 7, 11),
        rotary: str = "axial_three",
        **stack: Any,
    ):
        super().__init__()
        check_rotary(rotary, embed_dim)
        self.taps, self.prefix, self.rotary = check_taps(taps, depth), 0, rotary
        self.patch_embedding = PatchTokens(in_channels, image_size, patch_size, embed_dim, fixed_size=False)
        self.grid, self.patch_size = self.patch_embedding.grid, self.patch_embedding.patch_size
        self.position_embedding = nn.Parameter(sincos_table(self.grid, embed_dim))
        self.encoder = ResidualStack(embed_dim, depth, **stack)
        self.encoder.norm = nn.Identity()
        self.scales = token_scales(patch_size, embed_dim)
        self.channels = [embed_dim] * 4
        shrink_mixer_outputs(self, depth)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Four maps (B, C, …) of an image (B, in_channels, height, width), the finest first."""
        grid = whole_patch_grid(image.shape[2:], self.patch_size)
        taps = self._tapped(image, grid)
        return [scale(tap.transpose(1, 2).unflatten(2, grid)) for scale, tap in zip(self.scales, taps, strict=True)]

    def token_features(self, image: torch.Tensor, blocks: int | None = None) -> torch.Tensor:
        """Output of the last block that is used, (B, L, C) in raster order, for maps; ``blocks``: the first few."""
        return self._tapped(image, self.grid, None if blocks is None else [blocks - 1])[-1]

    def _tapped(
        self, image: torch.Tensor, grid: Sequence[int], taps: Sequence[int] | None = None
    ) -> list[torch.Tensor]:
        tokens = self.patch_embedding(image)
        tokens = tokens + resample_table(self.position_embedding, self.grid, grid)
        rotation, order = rotation_of(self.rotary, tokens, grid), reading_order(self.encoder, tokens, grid)
        return self.encoder.taps(tokens, self.taps if taps is None else taps, rotation, order)


ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "conv_vit": ConvViTPyramid,
    "conv_mamba": partial(ConvViTPyramid, encoder="mamba"),
    "vit": ViTPyramid,
    "mamba": VimPyramid,
}


def token_pyramid(name: str, **options: Any) -> nn.Module:
    """The encoder of that name, see `ENCODERS`, with its options.

    Raises:
        ValueError: for another name.
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder must be one of {', '.join(ENCODERS)}, got {name!r}")
    return ENCODERS[name](**options)
