"""Global tokens of an enclosed volume to one feature vector, for a clip or for each of its frames.

Source: arXiv:2503.20258 (E-ViM3) and its published code. Letters: B batch, (L, H, W) volume, C width, F features.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from custom_networks.layers.enclosure_tokens import EnclosureLayout

CLIP_MODES = ("all_concat", "all_mean", "all_max", "all_enclosure_mean", "two_corner_concat")
FRAME_MODES = ("all_concat", "all_mean", "all_max", "none")


def _gather(tokens: torch.Tensor, mode: str, dim: int) -> torch.Tensor:
    """Joins tokens (..., tokens, C) along ``dim`` as the mode says."""
    if mode.endswith("concat"):
        return tokens.flatten(dim)
    if mode == "none":
        return tokens
    return tokens.amax(dim) if mode == "all_max" else tokens.mean(dim)


class EnclosureAggregation(nn.Module):
    """Layer norm of chosen tokens, their combination, linear layer and SiLU; (B, L, H, W, C) to (B, F).

    Args:
        dim: width C.
        layout: where the global tokens are.
        features: F.
        mode: "all_concat", "all_mean" and "all_max" take the tokens where global planes of all three axes cross;
            "all_enclosure_mean" every global token; "two_corner_concat" the first and the last token.

    Raises:
        ValueError: for another mode.
    """

    def __init__(self, dim: int, layout: EnclosureLayout, features: int, mode: str = "all_concat"):
        super().__init__()
        if mode not in CLIP_MODES:
            raise ValueError(f"aggregation must be one of {CLIP_MODES}, got {mode!r}")
        self.mode = mode
        if mode == "all_enclosure_mean":
            cells = layout.shell_cells
        elif mode == "two_corner_concat":
            cells = np.array([0, np.prod(layout.size) - 1])
        else:
            cells = layout.crossings()
        self.register_buffer("cells", torch.tensor(cells), persistent=False)
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim * len(cells) if mode.endswith("concat") else dim, features)
        self.activation = nn.SiLU()

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Features of every clip."""
        tokens = self.norm(volume.flatten(1, 3).index_select(1, self.cells))
        return self.activation(self.linear(_gather(tokens, self.mode, 1)))


class FrameAggregation(nn.Module):
    """Combination of the global tokens of each frame of patches, linear layer and SiLU; to (B, frames, F).

    Planes of global tokens along l are left out. No norm.

    Args:
        dim: width C.
        layout: where the global tokens are.
        features: F.
        mode: of the tokens where global rows and columns cross, "all_concat", "all_mean", "all_max", or "none": each
            by itself, to (B, frames, tokens, F).

    Raises:
        ValueError: for another mode.
    """

    def __init__(self, dim: int, layout: EnclosureLayout, features: int, mode: str = "all_concat"):
        super().__init__()
        if mode not in FRAME_MODES:
            raise ValueError(f"frame aggregation must be one of {FRAME_MODES}, got {mode!r}")
        self.mode = mode
        rows, columns = layout.planes[1:]
        frames = np.setdiff1d(np.arange(layout.size[0]), layout.planes[0])
        cells = np.ravel_multi_index(np.meshgrid(frames, rows, columns, indexing="ij"), layout.size)
        self.grid = (len(frames), len(rows) * len(columns))
        self.register_buffer("cells", torch.tensor(cells.reshape(-1)), persistent=False)
        self.linear = nn.Linear(dim * self.grid[1] if mode == "all_concat" else dim, features)
        self.activation = nn.SiLU()

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Features of every frame of patches."""
        tokens = volume.flatten(1, 3).index_select(1, self.cells).unflatten(1, self.grid)
        return self.activation(self.linear(_gather(tokens, self.mode, 2)))
