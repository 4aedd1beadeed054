"""What all backends agree on: the precision of the state and the memory order of results."""

from __future__ import annotations

import torch


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Precision of the state for inputs of ``dtype``: float64 stays, everything else is computed in float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def is_channel_last(x: torch.Tensor) -> bool:
    """Whether a (B, D, L) tensor is a transposed view of (B, L, D) memory."""
    return x.stride(1) == 1 and x.shape[1] > 1


def in_memory_order_of(result: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A (B, D, L) ``result`` with the dtype of ``like``, channel-last in memory if and only if ``like`` is."""
    result = result.to(like.dtype)
    if is_channel_last(like):
        return result.transpose(1, 2).contiguous().transpose(1, 2)
    return result.contiguous()


def deliver(result: torch.Tensor, to: torch.Tensor | None, add: bool) -> torch.Tensor:
    """``result``, or ``to`` with the result copied or added into it."""
    if to is None:
        return result
    return to.add_(result) if add else to.copy_(result)
