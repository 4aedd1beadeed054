"""Test-time mirroring: logits averaged over flips, left and right labels exchanged where that matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import torch


class LabelExchange:
    """Which heads trade places when an axis is flipped: the left kidney of a mirrored patient is the right one.

    Args:
        pairs: label pairs, for example ``[[2, 13]]``; the heads are those of a softmax, so head = label id.
        axis: the left-right axis, counted as in ``mirror_axes``.

    Raises:
        ValueError: if a label appears twice or is the background.
    """

    def __init__(self, pairs: Sequence[Sequence[int]], axis: int):
        labels = [label for pair in pairs for label in pair]
        if any(len(pair) != 2 for pair in pairs) or len(set(labels)) != len(labels) or 0 in labels:
            raise ValueError(f"expected pairs of different foreground labels, each used once, got {list(pairs)}")
        self.pairs = [(int(a), int(b)) for a, b in pairs]
        self.axis = axis

    def order(self, heads: int) -> list[int]:
        """Head to read for each head after a flip.

        Raises:
            ValueError: if a pair names a label that the network has no head for.
        """
        order = list(range(heads))
        for a, b in self.pairs:
            if max(a, b) >= heads:
                raise ValueError(f"labels {a} and {b} are to be exchanged, but the network has only {heads} heads")
            order[a], order[b] = b, a
        return order


def mirror_combinations(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """All subsets of ``axes``, the empty one first."""
    return [subset for count in range(len(axes) + 1) for subset in combinations(axes, count)]


def mirrored_logits(
    predict: Callable[[torch.Tensor], torch.Tensor],
    patches: torch.Tensor,
    axes: Sequence[int] = (),
    exchange: LabelExchange | None = None,
) -> torch.Tensor:
    """Mean of the logits over every combination of flips, each flipped back.

    The mean is taken of logits, not of probabilities (nnU-Net, Isensee et al. 2021; left-right exchange as in
    U-Mamba2).

    Args:
        predict: patches (B, C, *S) to logits (B, heads, *S).
        patches: shape (B, C, *S).
        axes: axes of S that are flipped, 0 the first.
        exchange: heads that trade places when its axis is among the flipped ones.

    Returns:
        Logits, shape (B, heads, *S).
    """
    subsets = mirror_combinations(axes)
    total = predict(patches)
    for subset in subsets[1:]:
        dims = [axis + 2 for axis in subset]
        logits = predict(patches.flip(dims)).flip(dims)
        if exchange is not None and exchange.axis in subset:
            logits = logits[:, exchange.order(logits.shape[1])]
        total = total + logits
    return total / len(subsets) if len(subsets) > 1 else total
