"""Stacks of token blocks by name: transformer blocks, or bidirectional state-space blocks in their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from custom_networks.layers.reading_order import ReadingOrder, transposed_order
from custom_networks.layers.residual_stack import ResidualStack
from custom_networks.layers.vit_block import ViTStack

STACKS = ("vit", "mamba")


def stack_options(kind: str, mlp_ratio: float, options: dict[str, Any] | None) -> dict[str, Any]:
    """Options of a stack: no stochastic depth, ``mlp_ratio`` where there is an MLP, then the given ones."""
    return {"drop_path": 0.0} | ({"mlp_ratio": mlp_ratio} if kind == "vit" else {}) | (options or {})


def token_stack(kind: str, width: int, depth: int, num_heads: int, **options: Any) -> ViTStack | ResidualStack:
    """Stack of blocks, (B, L, C) to (B, L, C).

    Args:
        kind: "vit" or "mamba".
        width: C.
        depth: number of blocks.
        num_heads: attention heads; "mamba" has none.
        options: further options of :class:`~custom_networks.layers.vit_block.ViTStack` or
            :class:`~custom_networks.layers.residual_stack.ResidualStack`.

    Raises:
        ValueError: for another kind.
    """
    if kind not in STACKS:
        raise ValueError(f"the stack must be one of {', '.join(STACKS)}, got {kind!r}")
    if kind == "vit":
        return ViTStack(width, depth, num_heads, **options)
    return ResidualStack(width, depth, **options)


def reading_order(
    stack: ViTStack | ResidualStack,
    tokens: torch.Tensor,
    grid: Sequence[int],
    class_places: Sequence[int] = (),
    keep: torch.Tensor | None = None,
) -> ReadingOrder | None:
    """How every second block of a stack reads the tokens; None for stacks that do not alternate.

    Args:
        stack: of state-space blocks or others.
        tokens: (B, L, C), for their device.
        grid: patches along every axis.
        class_places: where class tokens stand in the sequence.
        keep: raster indices of the patches in the sequence; None for all.
    """
    if not getattr(stack, "alternating", False):
        return None
    return transposed_order(grid, tokens.device, class_places, keep)


def stack_features(
    stack: ViTStack | ResidualStack,
    tokens: torch.Tensor,
    grid: Sequence[int],
    keep: torch.Tensor | None = None,
    blocks: int | None = None,
) -> torch.Tensor:
    """Tokens (B, L, C) of a stack without class token after its first ``blocks`` blocks, not normalized."""
    order = reading_order(stack, tokens, grid, keep=keep)
    return stack.features(tokens, blocks) if order is None else stack.features(tokens, blocks, order)
