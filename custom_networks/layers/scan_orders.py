"""The three orders in which a volume of tokens is read as a sequence, for whole volumes and for kept tokens.

An order is named by its axes from slowest to fastest: "lhw" is row-major over (frames, rows, columns). The blocks go
through the orders in a cycle, lhw to hwl to lwh to lhw; both classes have one method a step. Letters: B batch, T cells
of the volume, K kept cells, C width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class VolumeOrders:
    """Re-orders sequences (B, T, C) that hold every cell of a volume of ``size`` (L, H, W)."""

    size: tuple[int, int, int]

    def lhw_to_hwl(self, tokens: torch.Tensor) -> torch.Tensor:
        """Frames become the fastest axis."""
        frames, rows, columns = self.size
        return tokens.unflatten(1, (frames, rows * columns)).transpose(1, 2).flatten(1, 2)

    def hwl_to_lwh(self, tokens: torch.Tensor) -> torch.Tensor:
        """The mirrored order of axes."""
        frames, rows, columns = self.size
        return tokens.unflatten(1, (rows, columns, frames)).transpose(1, 3).flatten(1, 3)

    def lwh_to_lhw(self, tokens: torch.Tensor) -> torch.Tensor:
        """Back to row-major."""
        frames, rows, columns = self.size
        return tokens.unflatten(1, (frames, columns, rows)).transpose(2, 3).flatten(1, 3)


@dataclass(frozen=True)
class KeptOrders:
    """Re-orders compacted sequences (B, K, C) of the cells that were kept, possibly others in every sample.

    Attributes:
        cells: rows of the batch-flattened volume (B * T) that are kept, (B * K,), in lhw order.
        hwl, lwh, lhw: rows of the batch-flattened kept tokens that give the order of that name from the previous one
            of the cycle, (B * K,).
    """

    cells: torch.Tensor
    hwl: torch.Tensor
    lwh: torch.Tensor
    lhw: torch.Tensor

    @classmethod
    def of(cls, keep: torch.Tensor, size: Sequence[int], batch: int) -> KeptOrders:
        """Orders for a mask of kept cells.

        Args:
            keep: boolean (1, T) for all samples or (B, T), True = kept.
            size: (L, H, W) of the volume.
            batch: number of samples B.

        Raises:
            ValueError: if samples keep different numbers of cells.
        """
        counts = keep.sum(1)
        if not bool((counts == counts[0]).all()):
            raise ValueError(f"every sample must keep the same number of tokens, got {counts.tolist()}")
        index = torch.arange(math.prod(size), device=keep.device).view(*size)
        cells = keep.nonzero()[:, 1].view(keep.shape[0], -1)
        orders, current = [], cells
        for axes in ((1, 2, 0), (0, 2, 1), (0, 1, 2)):
            # Place of every cell in the sequence that reads the whole volume in this order.
            place = torch.empty_like(index.flatten())
            place[index.permute(axes).flatten()] = index.flatten()
            order = place[current].argsort(dim=1)
            orders.append(order)
            current = current.gather(1, order)
        offset = torch.arange(batch, device=keep.device).unsqueeze(1)
        kept = cells.shape[1]
        return cls((cells + offset * keep.shape[1]).flatten(), *((o + offset * kept).flatten() for o in orders))

    def take(self, tokens: torch.Tensor) -> torch.Tensor:
        """Kept tokens (B, K, C) of a volume (B, T, C)."""
        return self._rows(tokens, self.cells)

    def put(self, kept: torch.Tensor, volume: torch.Tensor) -> torch.Tensor:
        """The volume (B, T, C) with the kept tokens (B, K, C) in their cells."""
        return volume.flatten(0, 1).index_copy(0, self.cells, kept.flatten(0, 1)).view(volume.shape)

    def lhw_to_hwl(self, tokens: torch.Tensor) -> torch.Tensor:
        """Frames become the fastest axis."""
        return self._rows(tokens, self.hwl)

    def hwl_to_lwh(self, tokens: torch.Tensor) -> torch.Tensor:
        """The mirrored order of axes."""
        return self._rows(tokens, self.lwh)

    def lwh_to_lhw(self, tokens: torch.Tensor) -> torch.Tensor:
        """Back to row-major."""
        return self._rows(tokens, self.lhw)

    @staticmethod
    def _rows(tokens: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return tokens.flatten(0, 1).index_select(0, rows).unflatten(0, (tokens.shape[0], -1))
