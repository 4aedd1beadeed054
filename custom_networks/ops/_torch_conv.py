"""Depthwise causal convolution in plain PyTorch: shifted multiply-adds on channel-last rows, block after block."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from custom_networks.ops._layout import deliver, state_dtype


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """Output (B, L, D) of rows (B, L, D)."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    for start, stop in _blocks(x):
        y = _convolve(x, weight, bias, reverse, start, stop)
        out[:, start:stop] = F.silu(y, inplace=True) if silu else y
    return out


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    reverse: bool,
    grad_x: Tensor | None = None,
    add: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of x, weight and bias.

    That of x is written, or added with ``add``, to ``grad_x`` if there is one.
    """
    dtype = state_dtype(x.dtype)
    dweight = torch.zeros(weight.shape, dtype=dtype, device=x.device)
    dbias = torch.zeros(weight.shape[0], dtype=dtype, device=x.device)
    before = torch.empty(x.shape, dtype=dtype, device=x.device) if silu else grad
    for start, stop in _blocks(x):
        gradient = grad[:, start:stop].to(dtype)
        if silu:
            y = _convolve(x, weight, bias, reverse, start, stop)
            gate = torch.sigmoid(y)
            gradient = gradient * gate * (1 + y * (1 - gate))
            before[:, start:stop] = gradient
        for k, (here, there) in _taps(weight.shape[1], x.shape[1], start, stop, reverse):
            dweight[:, k] += (gradient[:, here] * x[:, there]).sum((0, 1))
        dbias += gradient.sum((0, 1))
    dx = deliver(forward(before, weight.to(dtype), None, False, not reverse).to(x.dtype), grad_x, add)
    return dx, dweight.to(weight.dtype), None if bias is None else dbias.to(bias.dtype)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, reverse: bool, start: int, stop: int) -> Tensor:
    """Output before the activation at positions ``start`` to ``stop``, in the precision of sums."""
    dtype = state_dtype(x.dtype)
    taps = weight.to(dtype).t().contiguous()
    y = x[:, start:stop].to(dtype) * taps[-1]
    for k, (here, there) in _taps(weight.shape[1], x.shape[1], start, stop, reverse):
        if k < weight.shape[1] - 1:
            y[:, here].addcmul_(x[:, there].to(dtype), taps[k])
    return y if bias is None else y.add_(bias.to(dtype))


def _taps(width: int, length: int, start: int, stop: int, reverse: bool) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """For each tap that meets the block: its index, where in the block it adds, and which positions of x it sees."""
    for k in range(width):
        lag = k - width + 1 if reverse else width - 1 - k
        first, last = max(start, lag), min(stop, length + lag)
        if first < last:
            yield k, (slice(first - start, last - start), slice(first - lag, last - lag))


def _blocks(x: Tensor) -> Iterator[tuple[int, int]]:
    """Ranges of time that stay in a processor's cache."""
    length = x.shape[1]
    step = max(1, (1 << (17 if x.device.type == "cpu" else 28)) // max(1, x.shape[0] * x.shape[2]))
    for start in range(0, length, step):
        yield start, min(start + step, length)
