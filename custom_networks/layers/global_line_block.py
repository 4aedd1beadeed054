"""Optional block that scans only the lines of a volume which pass through global tokens.

Source: arXiv:2503.20258 (E-ViM3), published code; switched off in every published model. Letters: B batch, C width;
(l, h, w) are the axes of the volume: frames, rows, columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from custom_networks.layers.mamba_stack import MambaStack

AXES = ("l", "h", "w")


class GlobalLineBlock(nn.Module):
    """One-dimensional scans along l, then h, then w, both ways, (B, L, H, W, C) to the same shape.

    A line is scanned if at least one of its two fixed indices lies on a global plane of that axis; the other lines keep
    their values. Each line is a sequence by itself.

    Args:
        width: width C.
        size: (L, H, W).
        planes: for each axis the indices of the global planes.
        depth: layers of every stack.
        **stack: further arguments of :class:`~custom_networks.layers.mamba_stack.MambaStack`.
    """

    def __init__(
        self, width: int, size: Sequence[int], planes: Sequence[Sequence[int]], depth: int = 1, **stack: object
    ):
        super().__init__()
        for axis, name in enumerate(AXES):
            self.add_module(name, MambaStack(width, depth, reverse=False, **stack))
            self.add_module(f"{name}_reverse", MambaStack(width, depth, reverse=True, **stack))
            first, second = (other for other in range(3) if other != axis)
            chosen = np.zeros((size[first], size[second]), dtype=bool)
            chosen[planes[first]] = True
            chosen[:, planes[second]] = True
            self.register_buffer(f"{name}_lines", torch.tensor(np.flatnonzero(chosen)), persistent=False)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Scans the global lines of all three axes."""
        for axis, name in enumerate(AXES, start=1):
            lines, rows = volume.movedim(axis, 3), self.get_buffer(f"{name}_lines")
            shape = lines.shape
            lines = lines.flatten(1, 2)
            scanned = lines.index_select(1, rows).flatten(0, 1)
            scanned = self.get_submodule(f"{name}_reverse")(self.get_submodule(name)(scanned))
            lines = lines.index_copy(1, rows, scanned.unflatten(0, (shape[0], -1)))
            volume = lines.view(shape).movedim(3, axis)
        return volume
