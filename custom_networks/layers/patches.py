"""Images as grids of flattened patches, and back. Values of a patch are ordered (channel, *axes), last axis fastest."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from custom_networks.layers.patch_embedding import patch_grid


def to_patches(image: torch.Tensor, patch_size: Sequence[int]) -> torch.Tensor:
    """(B, C, *size) to (B, *grid, C * prod(patch_size)); trailing pixels that fill no patch are left out."""
    grid = patch_grid(image.shape[2:], patch_size)
    for axis, (count, patch) in enumerate(zip(grid, patch_size, strict=True)):
        image = image.narrow(axis + 2, 0, count * patch)
    for axis in reversed(range(len(grid))):
        image = image.unflatten(axis + 2, (grid[axis], patch_size[axis]))
    # (B, C, g1, p1, g2, p2, ...) to (B, g1, g2, ..., C, p1, p2, ...)
    axes = range(len(grid))
    order = [0, *(2 + 2 * axis for axis in axes), 1, *(3 + 2 * axis for axis in axes)]
    return image.permute(order).flatten(len(grid) + 1)


def from_patches(patches: torch.Tensor, channels: int, patch_size: Sequence[int]) -> torch.Tensor:
    """(B, *grid, channels * prod(patch_size)) to (B, channels, *(grid * patch_size)), the inverse of `to_patches`."""
    count = patches.dim() - 2
    values = patches.unflatten(-1, (channels, *patch_size))
    # (B, g1, g2, ..., C, p1, p2, ...) to (B, C, g1, p1, g2, p2, ...)
    pairs = [axis for i in range(count) for axis in (1 + i, count + 2 + i)]
    values = values.permute(0, count + 1, *pairs)
    for axis in range(count):
        values = values.flatten(2 + axis, 3 + axis)
    return values
