"""Images as sequences of patch tokens, and as sequences of patch vectors, for any number of spatial dimensions.

Sequences are in raster order: the last spatial axis runs fastest. Letters: B batch, C channels, L patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from custom_networks.layers.patch_embedding import PatchEmbedding, patch_grid
from custom_networks.layers.patches import from_patches, to_patches


def whole_patch_grid(image_size: Sequence[int], patch_size: Sequence[int]) -> tuple[int, ...]:
    """Number of patches along every axis.

    Raises:
        ValueError: if a patch does not fit a whole number of times.
    """
    grid = patch_grid(image_size, patch_size)
    if any(size % patch for size, patch in zip(image_size, patch_size, strict=True)):
        raise ValueError(f"image size {tuple(image_size)} is not a multiple of the patch size {tuple(patch_size)}")
    return grid


def patchify(image: torch.Tensor, patch_size: Sequence[int]) -> torch.Tensor:
    """Image (B, C, *spatial) to patch vectors (B, L, prod(patch_size) * C).

    Inside a vector the order is offset along the first axis, …, offset along the last axis, channel (fastest), as in
    the masked autoencoder of He et al. 2022.

    Raises:
        ValueError: if a patch does not fit a whole number of times.
    """
    whole_patch_grid(image.shape[2:], patch_size)
    vectors = to_patches(image, patch_size).flatten(1, -2)
    return vectors.unflatten(-1, (image.shape[1], -1)).transpose(-1, -2).flatten(-2)


def unpatchify(vectors: torch.Tensor, grid: Sequence[int], patch_size: Sequence[int]) -> torch.Tensor:
    """Patch vectors (B, L, prod(patch_size) * C) to the image (B, C, *spatial); the inverse of `patchify`.

    Raises:
        ValueError: if the number of patches, or the length of a vector, does not fit.
    """
    pixels = math.prod(patch_size)
    if vectors.shape[1] != math.prod(grid) or vectors.shape[-1] % pixels:
        raise ValueError(
            f"patch vectors of shape {tuple(vectors.shape)} do not fit a grid {tuple(grid)} of {tuple(patch_size)}"
        )
    channel_first = vectors.unflatten(-1, (pixels, -1)).transpose(-1, -2).flatten(-2)
    return from_patches(channel_first.unflatten(1, tuple(grid)), vectors.shape[-1] // pixels, patch_size)


class PatchTokens(PatchEmbedding):
    """Linear embedding of non-overlapping patches, (B, in_channels, *image_size) to (B, L, width).

    Args:
        in_channels: image channels.
        image_size: pixels along every axis; its length is the number of spatial dimensions.
        patch_size: one number, or one an axis.
        width: width of a token.
        norm: normalize the tokens (LayerNorm, epsilon 1e-5).
        fixed_size: refuse images of another size than ``image_size``.

    Raises:
        ValueError: if a patch does not fit a whole number of times, or an image of another shape comes in.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: Sequence[int],
        patch_size: int | Sequence[int],
        width: int,
        norm: bool = True,
        fixed_size: bool = True,
    ):
        image_size = tuple(int(size) for size in image_size)
        sizes = (patch_size,) * len(image_size) if isinstance(patch_size, int) else tuple(patch_size)
        grid = whole_patch_grid(image_size, sizes)
        super().__init__(in_channels, width, sizes)
        self.in_channels, self.width, self.fixed_size = in_channels, width, fixed_size
        self.image_size, self.patch_size, self.grid = image_size, sizes, grid
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()

    @property
    def patches(self) -> int:
        """Number of patches L."""
        return math.prod(self.grid)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Tokens in raster order."""
        expected = (self.in_channels, *(self.image_size if self.fixed_size else image.shape[2:]))
        whole_patch_grid(image.shape[2:], self.patch_size)
        if tuple(image.shape[1:]) != expected:
            raise ValueError(f"expected images of shape (B, {', '.join(map(str, expected))}), got {tuple(image.shape)}")
        return self.norm(super().forward(image).flatten(1, -2))
