"""Optional block that scans only the lines of a volume which pass through global tokens.

Source: arXiv:2503.20258 (E-ViM3), published code; switched off in every published model. Letters: B batch, C width;
(l, h, w) are the axes of the volume: frames, rows, columns.
"""

from __future__ import annotations

from collections.abc import Sequence

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
        planes: for each axis the indices of the global planes.
        depth: layers of every stack.
        **stack: further arguments of :class:`~custom_networks.layers.mamba_stack.MambaStack`.
    """

    def __init__(self, width: int, planes: Sequence[Sequence[int]], depth: int = 1, **stack: object):
        super().__init__()
        self.planes = [list(indices) for indices in planes]
        for axis in AXES:
            self.add_module(axis, MambaStack(width, depth, reverse=False, **stack))
            self.add_module(f"{axis}_reverse", MambaStack(width, depth, reverse=True, **stack))

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Scans the global lines of all three axes."""
        for axis, name in enumerate(AXES, start=1):
            lines = volume.movedim(axis, 3)
            shape, grid = lines.shape, lines.shape[1:3]
            first, second = (self.planes[other - 1] for other in (1, 2, 3) if other != axis)
            chosen = torch.zeros(grid, dtype=torch.bool, device=volume.device)
            chosen[first] = True
            chosen[:, second] = True
            rows = chosen.flatten().nonzero().squeeze(1)
            lines = lines.flatten(1, 2)
            scanned = lines.index_select(1, rows).flatten(0, 1)
            scanned = self.get_submodule(f"{name}_reverse")(self.get_submodule(name)(scanned))
            lines = lines.index_copy(1, rows, scanned.unflatten(0, (shape[0], -1)))
            volume = lines.view(shape).movedim(3, axis)
        return volume
