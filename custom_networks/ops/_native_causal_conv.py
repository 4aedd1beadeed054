"""The compiled causal convolution as a PyTorch operator: traceable, exportable, differentiable once.

Tensors are channel-last here: (B, L, D).
"""

from __future__ import annotations

import torch
from torch import Tensor

from custom_networks.ops._native_library import CausalConv, CausalConvGradients, cut, load, pointer, rows

MAX_WIDTH = 16
# Rows of one piece of work; also what one partial sum of the weight's gradient covers.
_ROWS = 128

_library = torch.library.Library("custom_networks", "FRAGMENT")
_INPUTS = "Tensor x, Tensor weight, Tensor? bias"
_library.define(f"native_causal_conv1d({_INPUTS}, bool silu, bool reverse) -> Tensor")
_library.define(
    f"native_causal_conv1d_backward(Tensor grad_out, {_INPUTS}, bool silu, bool reverse) -> (Tensor, Tensor, Tensor)"
)


def _describe(x: Tensor, taps: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> CausalConv:
    """The C structure of the inputs, with the taps as (W, D). All tensors must outlive it."""
    batch, length, channels = x.shape
    ranges = -(-length // _ROWS)
    threads, _ = cut(batch, ranges, x.numel() * taps.shape[0])
    return CausalConv(
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
        x_batch=x.stride(0),
        x_time=x.stride(1),
    )


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    x, taps, bias = rows(x), weight.t().contiguous(), None if bias is None else bias.contiguous()
    out = x.new_empty(x.shape)
    conv = _describe(x, taps, bias, silu, reverse)
    conv.out = out.data_ptr()
    load(x.dtype).call("causal_conv_forward", x.dtype, conv)
    return out


def _fake_forward(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    return x.new_empty(x.shape)


def _backward(
    grad_out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    x, grad_out, taps = rows(x), rows(grad_out), weight.t().contiguous()
    bias = None if bias is None else bias.contiguous()
    conv = _describe(x, taps, bias, silu, reverse)
    dx = x.new_empty(x.shape)
    dweight = weight.new_empty((x.shape[0] * conv.ranges, *taps.shape))
    dbias = weight.new_empty((x.shape[0] * conv.ranges, x.shape[2]))
    gradients = CausalConvGradients(
        out=grad_out.data_ptr(),
        out_batch=grad_out.stride(0),
        out_time=grad_out.stride(1),
        x=dx.data_ptr(),
        weight=dweight.data_ptr(),
        bias=dbias.data_ptr(),
    )
    load(x.dtype).call("causal_conv_backward", x.dtype, conv, gradients)
    return dx, dweight.sum(0).t().contiguous(), weight.new_empty(0) if bias is None else dbias.sum(0)


def _fake_backward(
    grad_out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape), weight.new_empty(0 if bias is None else bias.shape)


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
    *tensors, ctx.silu, ctx.reverse = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: torch.autograd.function.FunctionCtx, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias = ctx.saved_tensors
    operator = torch.ops.custom_networks.native_causal_conv1d_backward
    dx, dweight, dbias = operator(grad_out, x, weight, bias, ctx.silu, ctx.reverse)
    return dx, dweight, None if bias is None else dbias, None, None


_library.impl("native_causal_conv1d", _forward, "CPU")
_library.impl("native_causal_conv1d_backward", _backward, "CPU")
torch.library.register_fake("custom_networks::native_causal_conv1d", _fake_forward, lib=_library)
torch.library.register_fake("custom_networks::native_causal_conv1d_backward", _fake_backward, lib=_library)
torch.library.register_autograd(
    "custom_networks::native_causal_conv1d", _differentiate, setup_context=_keep, lib=_library
)


def causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """Causal convolution of a channel-last tensor.

    Args:
        x: (B, L, D), of dtype float32, bfloat16 or float64.
        weight: (D, W) with W at most ``MAX_WIDTH``, in float64 for float64, else float32, as is the bias.
        bias: (D,).
        silu: Whether the sum goes through SiLU.
        reverse: Whether time runs from the last position to the first.

    Returns:
        (B, L, D), dense, in the dtype of ``x``.
    """
    return torch.ops.custom_networks.native_causal_conv1d(x, weight, bias, silu, reverse)
