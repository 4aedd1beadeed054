"""Rates of stochastic depth along a stack."""

from __future__ import annotations

from collections.abc import Sequence


def drop_path_rates(rate: float | Sequence[float], depth: int) -> list[float]:
    """Rate of every block: from 0 at the first to ``rate`` at the last in equal steps, or the given rates themselves.

    Raises:
        ValueError: if rates are given, but not one a block.

    Source: Huang et al. 2016, "Deep Networks with Stochastic Depth".
    """
    if isinstance(rate, Sequence):
        if len(rate) != depth:
            raise ValueError(f"{len(rate)} rates of stochastic depth for {depth} blocks")
        return list(rate)
    return [rate * i / max(depth - 1, 1) for i in range(depth)]
