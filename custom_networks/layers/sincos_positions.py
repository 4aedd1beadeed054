"""Fixed sine-cosine position tables on image grids, and tables moved to another grid.

Source: He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners" (two axes), and its published extension to
three axes by Hu et al. 2024, arXiv:2409.07746.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

_INTERPOLATION = {1: "linear", 2: "bicubic", 3: "trilinear"}


def _encode(index: torch.Tensor, width: int) -> torch.Tensor:
    """Sines, then cosines, of positions (n,) at ``width // 2`` frequencies; (n, width) in float64."""
    half = width // 2
    angles = index.double()[:, None] * 10000.0 ** (-torch.arange(half, dtype=torch.float64, device=index.device) / half)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sincos_table(grid: Sequence[int], width: int, prefix_tokens: int = 0) -> torch.Tensor:
    """Position table of a grid, (1, prefix_tokens + L, width) in float32, L in raster order.

    The width is divided into one part an axis: equal even parts, rounded up, and the rest for the last part. The first
    part encodes the **second** grid axis and the second part the first one, as published; further parts keep their
    axis.

    Args:
        grid: patches along every axis; indices are not scaled.
        width: even width of a token.
        prefix_tokens: rows of zeros in front, for class tokens.

    Raises:
        ValueError: if the width cannot be divided into even, positive parts.
    """
    axes = len(grid)
    part = width // axes + (width // axes) % 2
    parts = [part] * (axes - 1) + [width - part * (axes - 1)]
    if parts[-1] < 2 or parts[-1] % 2:
        raise ValueError(f"a sine-cosine table for {axes} axes needs an even width of {2 * axes} or more, got {width}")
    order = [1, 0, *range(2, axes)] if axes > 1 else [0]
    columns = []
    for axis, size in zip(order, parts, strict=True):
        shape = [1] * axes + [size]
        shape[axis] = grid[axis]
        columns.append(_encode(torch.arange(grid[axis]), size).reshape(shape).expand(*grid, size))
    table = torch.cat(columns, dim=-1).reshape(1, math.prod(grid), width).float()
    return F.pad(table, (0, 0, prefix_tokens, 0))


def resample_table(table: torch.Tensor, old_grid: Sequence[int], new_grid: Sequence[int]) -> torch.Tensor:
    """Moves a position table to another grid over the same field of view.

    Args:
        table: (1, prefix + prod(old_grid), width); prefix rows, of class tokens, are kept as they are.
        old_grid: patches along every axis of the table.
        new_grid: patches along every axis of the result.

    Returns:
        (1, prefix + prod(new_grid), width), interpolated trilinearly on three axes, bicubically on two.

    Raises:
        ValueError: if the table has fewer rows than the old grid has patches.
    """
    prefix = table.shape[1] - math.prod(old_grid)
    if prefix < 0 or len(old_grid) != len(new_grid):
        raise ValueError(f"a table of {table.shape[1]} rows on {tuple(old_grid)} does not go to {tuple(new_grid)}")
    if tuple(old_grid) == tuple(new_grid):
        return table
    volume = table[:, prefix:].transpose(1, 2).reshape(1, -1, *old_grid)
    mode = _INTERPOLATION[len(old_grid)]
    moved = F.interpolate(volume.float(), size=tuple(new_grid), mode=mode, align_corners=False).to(table.dtype)
    return torch.cat([table[:, :prefix], moved.flatten(2).transpose(1, 2)], dim=1)
