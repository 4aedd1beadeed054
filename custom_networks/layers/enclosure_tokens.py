"""A shell of learned global tokens around, and planes of them through, a grid of patch tokens.

Source: "Mamba-3D as Masked Autoencoders for Accurate and Data-Efficient Analysis of Medical Ultrasound Videos",
arXiv:2503.20258, enclosure global tokens, and its published code. Letters: B batch, C width; (l, h, w) are the axes of
the volume: frames, rows, columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

FACES, EDGES, CORNERS = 6, 12, 8
KINDS = ("separate", "all_unified", "group_unified")


def plane_indices(size: int, register_planes: int) -> list[int]:
    """Indices of the global planes of an axis of ``size``: first, last, and ``register_planes`` evenly between."""
    # Single precision and truncation as published: equal spacing must give the same integers.
    return torch.linspace(0, size - 1, register_planes + 2, device="cpu").int().tolist()


class EnclosureLayout:
    """Which token sits in which cell of the enclosed volume.

    Attributes:
        grid: number of patches along (l, h, w).
        size: cells of the volume along (l, h, w): two planes of the shell and the register planes more.
        planes: for each axis the indices of its global planes, ascending.
        patch_cells: flat indices (row-major) of the cells that hold patches, in patch order.
        shell_cells: flat indices of all other cells.
        shell_kinds: for each shell cell the token in it: 0-5 faces, 6-17 edges, 18-25 corners, 26 register.

    Args:
        grid: number of patches along (l, h, w).
        register_planes: number of inner planes along each axis.

    Raises:
        ValueError: for a negative number of planes.
    """

    def __init__(self, grid: Sequence[int], register_planes: Sequence[int]):
        if min(register_planes) < 0:
            raise ValueError(f"register_planes must not be negative, got {tuple(register_planes)}")
        self.grid = tuple(grid)
        self.size = tuple(cells + planes + 2 for cells, planes in zip(grid, register_planes, strict=True))
        self.planes = [plane_indices(size, planes) for size, planes in zip(self.size, register_planes, strict=True)]

        index = np.indices(self.size).reshape(3, -1)
        listed = np.stack([np.isin(index[axis], self.planes[axis]) for axis in range(3)])
        is_shell = listed.any(0)
        self.patch_cells = np.flatnonzero(~is_shell)
        self.shell_cells = np.flatnonzero(is_shell)
        self.shell_kinds = self._kinds(index)[is_shell]

    def _kinds(self, index: np.ndarray) -> np.ndarray:
        """Token numbers of all cells, as if no cell held a patch."""
        last = index == np.array(self.size)[:, None] - 1
        outer = last | (index == 0)
        kinds = np.full(index.shape[1], FACES + EDGES + CORNERS)
        for axis in range(3):
            face = outer[axis] & (outer.sum(0) == 1)
            kinds[face] = 2 * axis + last[axis][face]
        for pair, (first, second) in enumerate(((0, 1), (0, 2), (1, 2))):
            edge = outer[first] & outer[second] & (outer.sum(0) == 2)
            kinds[edge] = FACES + 4 * pair + last[first][edge] + 2 * last[second][edge]
        corner = outer.all(0)
        kinds[corner] = FACES + EDGES + (last[0] + 2 * last[1] + 4 * last[2])[corner]
        return kinds

    def crossings(self) -> np.ndarray:
        """Flat indices of the cells where global planes of all three axes meet, row-major."""
        return np.ravel_multi_index(np.meshgrid(*self.planes, indexing="ij"), self.size).reshape(-1)


class EnclosureTokens(nn.Module):
    """Puts patch tokens (B, patches, C) into the enclosed volume, (B, cells, C) in row-major order.

    Args:
        dim: width C.
        layout: what sits where.
        kind: "separate" learns a token for each face, edge and corner and one for the register planes;
            "group_unified" one token for each of the four groups; "all_unified" a single one.

    All tokens start at zero. Without register planes there is no register token.

    Raises:
        ValueError: for an unknown kind.
    """

    def __init__(self, dim: int, layout: EnclosureLayout, kind: str = "separate"):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"enclosure must be one of {KINDS}, got {kind!r}")
        has_register = len(layout.patch_cells) + self._box_cells(layout.size) < math.prod(layout.size)
        groups = {"faces": FACES, "edges": EDGES, "corners": CORNERS} | ({"register": 1} if has_register else {})
        self.group_sizes, self.kind = list(groups.values()), kind
        if kind == "all_unified":
            groups = {"token": 1}
        for name, count in groups.items():
            count = count if kind == "separate" else 1
            shape = (1, 1, 1, 1, dim) if count == 1 else (count, 1, 1, 1, 1, dim)
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))
        self.names = list(groups)
        order = np.argsort(np.concatenate((layout.patch_cells, layout.shell_cells)))
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("shell_kinds", torch.tensor(layout.shell_kinds), persistent=False)

    @staticmethod
    def _box_cells(size: Sequence[int]) -> int:
        """Number of cells on the surface of a box."""
        return math.prod(size) - math.prod(cells - 2 for cells in size)

    def table(self) -> torch.Tensor:
        """All global tokens, (26 or 27, C): faces, edges, corners, register."""
        tokens = [getattr(self, name).reshape(-1, getattr(self, name).shape[-1]) for name in self.names]
        if self.kind == "all_unified":
            return tokens[0].expand(sum(self.group_sizes), -1)
        return torch.cat([t.expand(size, -1) for t, size in zip(tokens, self.group_sizes, strict=True)])

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Volume in the wider dtype of patches and tokens."""
        shell = self.table()[self.shell_kinds].expand(patches.shape[0], -1, -1)
        patches = patches.to(torch.promote_types(patches.dtype, shell.dtype))
        return torch.cat((patches, shell.to(patches.dtype)), dim=1).index_select(1, self.order)
