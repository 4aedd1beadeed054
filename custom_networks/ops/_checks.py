"""Errors that name the argument and say what was expected."""

from __future__ import annotations

from torch import Tensor


def check_floating(**tensors: Tensor | None) -> None:
    """All tensors are real, floating, and on one device."""
    present = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    first = next(iter(present))
    for name, tensor in present.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be of real floating dtype, got {tensor.dtype}")
        if tensor.device != present[first].device:
            raise ValueError(f"{name} is on {tensor.device}, {first} on {present[first].device}")


def check_rank(name: str, tensor: Tensor, rank: int, meaning: str) -> None:
    """A tensor has so many dimensions; ``meaning`` names them."""
    if tensor.dim() != rank:
        raise ValueError(f"{name} must have shape {meaning}, got {tuple(tensor.shape)}")


def check_shape(name: str, tensor: Tensor | None, expected: tuple[int, ...], meaning: str) -> None:
    """A tensor, if there is one, has the expected shape."""
    if tensor is not None and tuple(tensor.shape) != expected:
        raise ValueError(f"{name} must have shape {meaning} = {expected}, got {tuple(tensor.shape)}")


def check_not_empty(**sizes: int) -> None:
    """No size is zero."""
    for name, size in sizes.items():
        if size == 0:
            raise ValueError(f"empty input: {name} is 0")
