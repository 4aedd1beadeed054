"""Cutting a sequence into slabs that are worked on one after the other.

A slab is a run of time steps seen as ``chunks`` pieces of ``steps`` steps side by side: within a slab, step ``i`` of
all pieces is computed by the same vector operation. The last slab may be padded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Slab:
    """Time steps ``start`` to ``stop``, padded behind to ``chunks`` times ``steps``."""

    index: int
    start: int
    stop: int
    chunks: int
    steps: int

    def rows(self, x: Tensor) -> Tensor:
        """This slab of a (B, L, ...) tensor as a view, (B, stop - start, ...)."""
        return x[:, self.start : self.stop]

    def split(self, rows: Tensor) -> Tensor:
        """(B, stop - start, ...) as (B, chunks, steps, ...), zeros behind the end."""
        missing = self.chunks * self.steps - rows.shape[1]
        if missing:
            rows = F.pad(rows, (0, 0) * (rows.dim() - 2) + (0, missing))
        return rows.unflatten(1, (self.chunks, self.steps))

    def join(self, pieces: Tensor) -> Tensor:
        """Inverse of :meth:`split`: (B, chunks, steps, ...) as (B, stop - start, ...)."""
        return pieces.flatten(1, 2)[:, : self.stop - self.start]


def slabs(length: int, chunks: int, steps: int, last_first: bool) -> Iterator[Slab]:
    """Cuts ``length`` time steps into slabs of up to ``chunks * steps``, in the order of work."""
    width = chunks * steps
    indices = range(-(-length // width))
    for index in reversed(indices) if last_first else indices:
        start = index * width
        stop = min(start + width, length)
        used = min(steps, stop - start)
        yield Slab(index, start, stop, -(-(stop - start) // used), used)
