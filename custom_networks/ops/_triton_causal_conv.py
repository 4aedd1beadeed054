"""The depthwise causal convolution on Triton kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from custom_networks.ops._triton_conv_kernels import convolve, convolve_back
from custom_networks.ops._triton_launch import as_float, dense_rows, launch

# The backward kernel keeps 2 W - 1 rows and W sums in registers.
MAX_WIDTH = 8
_CHANNELS, _STEPS, _WARPS = 64, 16, 4
# Tiles of time of one program of the backward kernel: what one partial sum of the weight's gradient covers.
_TILES = 8


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """Output (B, L, D)."""
    x = dense_rows(x)
    weight, bias = as_float(weight), as_float(bias)
    batch, length, channels = x.shape
    blocks, pieces = -(-channels // _CHANNELS), -(-length // _STEPS)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    launch(
        convolve,
        batch * pieces * blocks,
        x.device,
        *(x, weight, bias, out, *x.stride()[:2], length, channels, blocks, pieces),
        WIDTH=weight.shape[1],
        STEPS=_STEPS,
        CHANNELS=_CHANNELS,
        DIRECTION=int(reverse),
        SILU=silu,
        HAS_BIAS=bias is not None,
        num_warps=_WARPS,
    )
    return out


def backward(
    grad_out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
) -> tuple[Tensor | None, ...]:
    """Gradients of x, weight and bias; None for an absent bias."""
    tensors = x, weight, bias
    x, grad_out = dense_rows(x), dense_rows(grad_out)
    weight, bias = as_float(weight), as_float(bias)
    (batch, length, channels), width = x.shape, weight.shape[1]
    # Wider kernels take fewer rows at a time, for the same number of registers.
    steps = _STEPS if width <= 4 else _STEPS // 2
    blocks, pieces = -(-channels // _CHANNELS), -(-length // (steps * _TILES))
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    dweight = torch.empty((batch, pieces, width, channels), dtype=torch.float32, device=x.device)
    dbias = torch.empty((batch, pieces, channels) if bias is not None else (0,), dtype=torch.float32, device=x.device)
    launch(
        convolve_back,
        batch * pieces * blocks,
        x.device,
        *(grad_out, x, weight, bias, dx, dweight, dbias, *grad_out.stride()[:2], *x.stride()[:2]),
        *(length, channels, blocks, pieces, _TILES),
        WIDTH=width,
        STEPS=steps,
        CHANNELS=_CHANNELS,
        DIRECTION=int(reverse),
        SILU=silu,
        HAS_BIAS=bias is not None,
        num_warps=_WARPS,
    )
    found = dx, dweight.sum((0, 1)).t(), None if bias is None else dbias.sum((0, 1))
    return tuple(None if x is None else g.to(x.dtype).contiguous() for x, g in zip(tensors, found, strict=True))
