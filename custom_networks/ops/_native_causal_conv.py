"""The compiled causal convolution on PyTorch tensors: channel-last, of any strides and floating dtypes."""

from __future__ import annotations

from torch import Tensor

from custom_networks.ops._layout import deliver
from custom_networks.ops._native_library import (
    CausalConv,
    CausalConvGradients,
    cut,
    in_dtypes,
    load,
    parameters,
    pointer,
    streams,
    sum_parts,
)

MAX_WIDTH = 16
# Rows of one piece of work; also what one partial sum of the weight's gradient covers.
_ROWS = 128


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """Output (B, L, D)."""
    dtype = x.dtype
    taps, bias = parameters(x, weight.t(), bias)
    (x,) = streams(x)
    out = x.new_empty(x.shape)
    conv = _describe(x, taps, bias, silu, reverse)
    conv.out = out.data_ptr()
    load(x.dtype).call("causal_conv_forward", x.dtype, conv)
    return out.to(dtype)


def backward(
    grad_out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    reverse: bool,
    grad_x: Tensor | None = None,
    add: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of x, weight and bias; None for an absent bias.

    That of x is written, or added with ``add``, to ``grad_x`` if there is one: (B, L, D) with dense rows.
    """
    tensors = x, weight, bias
    taps, bias = parameters(x, weight.t(), bias)
    x, grad_out = streams(x, grad_out)
    conv = _describe(x, taps, bias, silu, reverse)
    in_place = grad_x is not None and grad_x.dtype == x.dtype
    dx, pieces = grad_x if in_place else x.new_empty(x.shape), x.shape[0] * conv.ranges
    dtaps, dbias = taps.new_empty((pieces, *taps.shape)), taps.new_empty((pieces, x.shape[2]))
    gradients = CausalConvGradients(
        out=grad_out.data_ptr(),
        out_batch=grad_out.stride(0),
        out_time=grad_out.stride(1),
        x=dx.data_ptr(),
        weight=dtaps.data_ptr(),
        bias=dbias.data_ptr(),
        add_to_x=in_place and add,
    )
    gradients.x_batch, gradients.x_time = dx.stride()[:2]
    load(x.dtype).call("causal_conv_backward", x.dtype, conv, gradients)
    if grad_x is not None and not in_place:
        dx = deliver(dx, grad_x, add)
    return in_dtypes((dx, sum_parts(dtaps).t().contiguous(), sum_parts(dbias)), tensors)


def _describe(x: Tensor, taps: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> CausalConv:
    """The C structure of the inputs, with the taps as (W, D). All tensors must outlive it."""
    batch, length, channels = x.shape
    ranges = -(-length // _ROWS)
    threads, _ = cut(batch, ranges, x.numel() * taps.shape[0])
    conv = CausalConv(
        batch=batch,
        length=length,
        channels=channels,
        width=taps.shape[0],
        silu=silu,
        reverse=reverse,
        threads=threads,
        ranges=ranges,
        x=x.data_ptr(),
        weight=taps.data_ptr(),
        bias=pointer(bias),
    )
    conv.x_batch, conv.x_time = x.stride()[:2]
    return conv
