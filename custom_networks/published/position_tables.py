"""Position tables of checkpoints on the grid of another image size."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from custom_networks.layers.sincos_positions import resample_table
from custom_networks.published.reading import CheckpointError


def cube_of(rows: int, dims: int) -> tuple[int, ...]:
    """Grid of ``rows`` patches with equal sides.

    Raises:
        CheckpointError: if there is none.
    """
    side = round(rows ** (1 / dims))
    if side**dims != rows:
        raise CheckpointError(
            f"a position table of {rows} patches is no {dims}-dimensional cube: give its image size or grid"
        )
    return (side,) * dims


def fit_positions(
    table: torch.Tensor, prefix: int, grid: Sequence[int], old_grid: Sequence[int] | None = None
) -> torch.Tensor:
    """A position table moved to another grid.

    Args:
        table: (1, prefix + L, C).
        prefix: rows of class tokens.
        grid: grid of the result.
        old_grid: grid of the table; None: the same grid if the number of patches is, otherwise a cube.

    Raises:
        CheckpointError: if the table belongs to no cube and ``old_grid`` is not given.
    """
    patches = table.shape[1] - prefix
    if old_grid is None:
        old_grid = grid if patches == torch.Size(grid).numel() else cube_of(patches, len(grid))
    return resample_table(table, tuple(old_grid), tuple(grid))
