"""Random masks over a grid of patches in which neighbors in time and space are hidden together.

Source: arXiv:2503.20258 (E-ViM3), spatial-temporal chained masking, and its published code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F


class ChainedMasking:
    """Draws coarse cells and spreads each over a chain of patches.

    Without chains a cell is a patch, and every sample of a batch gets its own draw. With chains the grid is divided
    into ceil(grid / chain) cells, and one draw serves the whole batch unless ``per_sample``.

    Attributes:
        cell_grid: number of cells along (l, h, w).
        num_cells: number of cells.
        num_masked: cells hidden in every draw, ``int(mask_ratio * num_cells)``.

    Args:
        grid: number of patches along (l, h, w).
        mask_ratio: share of the cells to hide, in [0, 1).
        time_chain: frames of patches that share a cell.
        chain: rows and columns of patches that share a cell.
        per_sample: with chains too, draw for every sample. All samples must hide the same number of patches, which
            holds when the chains divide the grid.

    Raises:
        ValueError: for a ratio outside [0, 1), a chain below 1, or ``per_sample`` with chains that do not divide the
            grid.
    """

    def __init__(
        self,
        grid: Sequence[int],
        mask_ratio: float = 0.8,
        time_chain: int = 1,
        chain: int = 1,
        per_sample: bool = False,
    ):
        if not 0 <= mask_ratio < 1:
            raise ValueError(f"mask_ratio must be in [0, 1), got {mask_ratio}")
        if min(time_chain, chain) < 1:
            raise ValueError(f"chains must be at least 1, got {time_chain} and {chain}")
        self.grid, chains = tuple(grid), (time_chain, chain, chain)
        chained = max(chains) > 1
        if per_sample and any(size % link for size, link in zip(grid, chains, strict=True)):
            raise ValueError(f"draws per sample need chains {chains} that divide the patch grid {self.grid}")
        self.shared = chained and not per_sample
        self.cell_grid = tuple(math.ceil(size / link) for size, link in zip(grid, chains, strict=True))
        self.num_cells = math.prod(self.cell_grid)
        self.num_masked = int(mask_ratio * self.num_cells)

    def draw(self, batch: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Boolean cells, True = hidden, on the CPU: (1, num_cells) for a shared draw, else (batch, num_cells).

        The generator (default: the global one of the CPU) gives the same cells on every device.
        """
        rows = 1 if self.shared else batch
        ranks = torch.rand(rows, self.num_cells, generator=generator, device="cpu").argsort(dim=1).argsort(dim=1)
        return ranks < self.num_masked

    def spread(self, cells: torch.Tensor) -> torch.Tensor:
        """Cells (rows, num_cells) to patches (rows, *grid) by nearest-neighbor up-sampling.

        Raises:
            ValueError: if the number of cells does not fit.
        """
        if cells.shape[1:] != (self.num_cells,):
            raise ValueError(f"mask cells have shape {tuple(cells.shape)}, expected (rows, {self.num_cells})")
        if self.cell_grid == self.grid:
            return cells.unflatten(1, self.grid)
        coarse = cells.unflatten(1, (1, *self.cell_grid)).float()
        return F.interpolate(coarse, size=self.grid, mode="nearest").squeeze(1) > 0.5
