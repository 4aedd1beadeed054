"""Stacks of token blocks by name: transformer blocks, or bidirectional state-space blocks in their place."""

from __future__ import annotations

from typing import Any

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
