"""Order in which a scan reads the patches of an image: raster, or with the axes of the grid reversed.

Letters: B batch, L tokens of a sequence, K kept patches, C width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from custom_networks.layers.random_masking import take_tokens

SCAN_ORDERS = ("raster", "alternating")


class ReadingOrder(NamedTuple):
    """A permutation of a token sequence and its inverse.

    Attributes:
        forth: place in the raster sequence of every token of the other order, (1, L) or (B, L).
        back: the inverse.
    """

    forth: torch.Tensor
    back: torch.Tensor

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (B, L, C) in this order."""
        return take_tokens(tokens, self.forth.expand(tokens.shape[0], -1))

    def undo(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (B, L, C) in this order, back in raster order."""
        return take_tokens(tokens, self.back.expand(tokens.shape[0], -1))


def transposed_order(
    grid: Sequence[int], device: torch.device, class_places: Sequence[int] = (), keep: torch.Tensor | None = None
) -> ReadingOrder:
    """Order in which the first axis of the grid runs fastest and the last one slowest; columns, for an image.

    Args:
        grid: patches along every axis.
        device: of the result.
        class_places: where class tokens stand in the raster sequence, ascending; they stay there.
        keep: raster indices of the patches in the sequence, (B, K); None for all, in raster order.
    """
    patches = math.prod(grid)
    order = torch.arange(patches, device=device).reshape(tuple(grid)).permute(*reversed(range(len(grid)))).flatten()
    forth = order[None] if keep is None else order.argsort()[keep].argsort(dim=1)
    length = forth.shape[1] + len(class_places)
    slots = torch.tensor([i for i in range(length) if i not in set(class_places)], device=device)
    places = torch.arange(length, device=device).expand(forth.shape[0], -1).clone()
    places[:, slots] = slots[forth]
    return ReadingOrder(places, places.argsort(dim=1))
