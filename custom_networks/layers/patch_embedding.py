"""Images to patch tokens: a convolution whose kernel is its stride."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from custom_networks.layers.conv_blocks import CONV


def patch_grid(image_size: Sequence[int], patch_size: Sequence[int]) -> tuple[int, ...]:
    """Number of whole patches along each axis; pixels behind the last whole patch are ignored.

    Raises:
        ValueError: if an axis does not hold one patch, or the numbers of axes differ.
    """
    if len(image_size) != len(patch_size):
        raise ValueError(f"image size {tuple(image_size)} and patch size {tuple(patch_size)} differ in dimensions")
    grid = tuple(size // patch for size, patch in zip(image_size, patch_size, strict=True))
    if min(patch_size) < 1 or min(grid) < 1:
        raise ValueError(f"image size {tuple(image_size)} does not hold a patch of {tuple(patch_size)}")
    return grid


class PatchEmbedding(nn.Module):
    """Linear map of every non-overlapping patch, (B, in_channels, *size) to (B, *grid, embed_dim), channels last.

    Args:
        in_channels: channels of the image.
        embed_dim: width of a token.
        patch_size: size of a patch along each axis; its length fixes the number of axes (2 or 3).
    """

    def __init__(self, in_channels: int, embed_dim: int, patch_size: Sequence[int]):
        super().__init__()
        patch_size = tuple(patch_size)
        self.projection = CONV[len(patch_size)](in_channels, embed_dim, patch_size, stride=patch_size)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Embeds an image; trailing pixels that do not fill a patch are ignored."""
        return self.projection(image).movedim(1, -1)
