"""Learned attention bias of every pair of patches by their distance along each axis.

Source: Liu et al. 2021, "Swin Transformer" (table), and Bao et al. 2022, "BEiT" (class token). Letters: L tokens, H
heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

# Rows of a table for pairs with a class token: class to patch, patch to class, class to itself.
CLASS_TOKEN_ROWS = 3

_INTERPOLATION = {1: "linear", 2: "bicubic", 3: "trilinear"}


def distances(grid: Sequence[int]) -> list[int]:
    """Number of distances along every axis of a grid, from one side to the other and back."""
    return [2 * size - 1 for size in grid]


def relative_position_index(grid: Sequence[int], class_token: bool = False) -> torch.Tensor:
    """Row of the table for every pair of tokens (from, to), (L, L) int64; the class token comes first.

    Args:
        grid: patches along every axis, in raster order.
        class_token: whether there is one; its three rows are the last of the table.
    """
    sides = distances(grid)
    places = torch.stack(torch.meshgrid(*(torch.arange(size) for size in grid), indexing="ij")).flatten(1)
    index = torch.zeros(places.shape[1], places.shape[1], dtype=torch.int64)
    for place, side in zip(places, sides, strict=True):
        index = index * side + (place[:, None] - place[None, :] + side // 2)
    if not class_token:
        return index
    rows = math.prod(sides)
    index = F.pad(index, (1, 0, 1, 0))
    index[0, :], index[:, 0], index[0, 0] = rows, rows + 1, rows + 2
    return index


def resample_bias_table(
    table: torch.Tensor, old_grid: Sequence[int], new_grid: Sequence[int], class_token: bool = False
) -> torch.Tensor:
    """Moves a table to another grid; on two axes bicubically. Rows of the class token are copied.

    Args:
        table: (prod(2 * old_grid - 1) + rows of the class token, H).
        old_grid: patches along every axis of the table.
        new_grid: patches along every axis of the result.
        class_token: whether the table has rows for one.

    Raises:
        ValueError: if the table does not belong to the old grid.
    """
    old, new, extra = distances(old_grid), distances(new_grid), CLASS_TOKEN_ROWS * class_token
    if len(table) != math.prod(old) + extra:
        raise ValueError(f"a relative position table of {len(table)} rows does not belong to a grid {tuple(old_grid)}")
    if old == new:
        return table
    pairs = table[: len(table) - extra].T.reshape(1, -1, *old)
    moved = F.interpolate(pairs.float(), size=new, mode=_INTERPOLATION[len(old)], align_corners=False).to(table.dtype)
    return torch.cat([moved[0].flatten(1).T, table[len(table) - extra :]])


class RelativePositionBias(nn.Module):
    """Bias of attention logits, (H, L, L), from a table that starts at zero.

    Args:
        grid: patches along every axis.
        num_heads: heads H.
        class_token: whether a class token stands in front of the patches.
    """

    def __init__(self, grid: Sequence[int], num_heads: int, class_token: bool = False):
        super().__init__()
        rows = math.prod(distances(grid)) + CLASS_TOKEN_ROWS * class_token
        self.table = nn.Parameter(torch.zeros(rows, num_heads))
        self.register_buffer("index", relative_position_index(grid, class_token), persistent=False)

    def forward(self) -> torch.Tensor:
        """The bias of every head."""
        # Rows of heads in one piece: three times as fast, back and forth, as picking rows of the table.
        return self.table.T.contiguous().index_select(1, self.index.flatten()).unflatten(1, self.index.shape)
