"""Images to patch tokens through two stages of convolutions that respect a mask.

Source: Gao et al. 2022, "ConvMAE: Masked Convolution Meets Masked Autoencoders". Letters: B batch, L patches, C width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers import DropPath
from torch import nn

from custom_networks.layers.patch_embedding import PatchEmbedding
from custom_networks.layers.patch_tokens import whole_patch_grid


def _normalize_channels(norm: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    return norm(x.movedim(1, -1)).movedim(-1, 1)


class NormalizedPatchEmbedding(PatchEmbedding):
    """Linear map of every non-overlapping patch, LayerNorm (epsilon 1e-5) and GELU; (B, C, *size) to (B, C', *grid)."""

    def __init__(self, in_channels: int, embed_dim: int, patch_size: Sequence[int]):
        super().__init__(in_channels, embed_dim, patch_size)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Embeds an image or a map."""
        return F.gelu(self.norm(super().forward(image))).movedim(-1, 1)


class MaskedConvBlock(nn.Module):
    """Depthwise 5x5 convolution between two pointwise ones, then an MLP, both pre-normalized with a residual.

    Maps (B, C, H, W) keep their shape. The depthwise convolution sees zeros at hidden positions, so that nothing
    visible depends on what is hidden.

    Args:
        width: C.
        mlp_ratio: hidden width of the MLP in units of C.
        drop_path: probability that a branch of a sample is dropped.
    """

    def __init__(self, width: int, mlp_ratio: float = 4.0, drop_path: float = 0.0):
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.conv1, self.conv2 = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.depthwise = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.fc1, self.fc2 = nn.Conv2d(width, hidden, 1), nn.Conv2d(hidden, width, 1)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        """Mixes a map; ``visible`` (B, 1, H, W) is 1 at positions that may be seen and 0 elsewhere, None for all."""
        y = self.conv1(_normalize_channels(self.norm1, x))
        if visible is not None:
            y = y * visible
        x = x + self.drop_path(self.conv2(self.depthwise(y)))
        return x + self.drop_path(self.fc2(F.gelu(self.fc1(_normalize_channels(self.norm2, x)))))


class ConvTokens(nn.Module):
    """Two stages of `MaskedConvBlock`s on finer grids, then the tokens of a third, (B, L, C).

    Args:
        in_channels: image channels.
        image_size: (height, width).
        patch_sizes: factor by which each of the three embeddings reduces the height and the width.
        widths: channels of the three stages; the last is C.
        depths: blocks of the first two stages.
        mlp_ratios: MLP widths of the first two stages, in units of their channels.
        drop_path: rates of stochastic depth of all these blocks; None for zeros.

    Raises:
        ValueError: if a patch does not fit a whole number of times, or an image of another shape comes in.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: Sequence[int],
        patch_sizes: Sequence[int],
        widths: Sequence[int],
        depths: Sequence[int],
        mlp_ratios: Sequence[float],
        drop_path: Sequence[float] | None = None,
    ):
        super().__init__()
        if not len(patch_sizes) == len(widths) == 3 or not len(depths) == len(mlp_ratios) == 2:
            raise ValueError("three patch sizes and widths, and two depths and MLP ratios are needed")
        self.in_channels, self.width = in_channels, widths[-1]
        self.image_size, self.patch_size = tuple(image_size), (math.prod(patch_sizes),) * 2
        self.grid = whole_patch_grid(self.image_size, self.patch_size)
        rates = iter(drop_path or [0.0] * sum(depths))
        self.embeddings = nn.ModuleList(
            NormalizedPatchEmbedding(before, after, (size, size))
            for before, after, size in zip([in_channels, *widths[:-1]], widths, patch_sizes, strict=True)
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(MaskedConvBlock(width, ratio, next(rates)) for _ in range(depth))
            for width, depth, ratio in zip(widths[:-1], depths, mlp_ratios, strict=True)
        )
        self.projection = nn.Linear(self.width, self.width)
        # Cells of a stage along each axis that one patch of the last grid covers.
        self.cells = [math.prod(patch_sizes[i + 1 :]) for i in range(2)]

    @property
    def patches(self) -> int:
        """Number of patches L."""
        return math.prod(self.grid)

    def maps(
        self, image: torch.Tensor, visible: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Outputs of both stages and the tokens.

        Args:
            image: (B, in_channels, *image_size).
            visible: boolean (B, L), False for hidden patches; None shows all.

        Returns:
            Maps (B, C1, …) and (B, C2, …), and tokens (B, L, C) in raster order.
        """
        expected = (self.in_channels, *self.image_size)
        if tuple(image.shape[1:]) != expected:
            raise ValueError(f"expected images of shape (B, {', '.join(map(str, expected))}), got {tuple(image.shape)}")
        x, outputs = image, []
        for embedding, blocks, cells in zip(self.embeddings, self.stages, self.cells, strict=False):
            x, mask = embedding(x), None
            if visible is not None:
                mask = visible.unflatten(1, (1, *self.grid)).to(x.dtype)
                mask = mask.repeat_interleave(cells, dim=2).repeat_interleave(cells, dim=3)
            for block in blocks:
                x = block(x, mask)
            outputs.append(x)
        tokens = self.embeddings[-1](x).flatten(2).transpose(1, 2)
        return *outputs, self.projection(tokens)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Tokens in raster order."""
        return self.maps(image)[-1]
