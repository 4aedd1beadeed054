"""The inside of a Mamba mixer, between its two large projections."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from custom_networks.ops._checks import check_floating, check_not_empty, check_rank, check_shape
from custom_networks.ops.backend import resolve_beside
from custom_networks.ops.functional import causal_conv1d, selective_scan


def mamba_inner(
    xz: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor | None,
    x_proj_weight: Tensor,
    dt_proj_weight: Tensor,
    dt_bias: Tensor | None,
    A: Tensor,
    D: Tensor | None,
    reverse: bool = False,
) -> Tensor:
    """Convolution, projections, scan and gate of one direction of a Mamba mixer.

    With x and z the halves of ``xz``::

        u = silu(causal_conv1d(x));  dt, B, C = x_proj(u);  y = selective_scan(u, dt_proj(dt), A, B, C, D, z, dt_bias)

    Where a backend has it as one operator, autograd keeps, beside ``xz``, little more than a quarter of the size of u,
    instead of five times that size; the rest is computed again. Exported programs show its parts.

    Args:
        xz: Input of the convolution and gate side by side, (B, L, 2 D).
        conv_weight: Taps, (D, W).
        conv_bias: (D,).
        x_proj_weight: (R + 2 N, D), with R the rank of the step size.
        dt_proj_weight: (D, R).
        dt_bias: Added to the step sizes, which then go through softplus, (D,).
        A: State matrix, (D, N), negative in practice.
        D: Weight of the skip connection, (D,).
        reverse: From the last position to the first, the convolution included.

    Returns:
        The gated output, (B, L, D), in the dtype of ``xz``, in which the projections are computed too. State and sums
        are float32 (float64 for float64).

    Raises:
        ValueError: A shape does not fit, or is empty; tensors are on different devices.
        TypeError: A tensor is not of real floating dtype.

    Source: Mamba, Gu and Dao 2023, section 3.4 and the inner function published with it. Deviations: the output
        projection is not part of it; ``reverse``.
    """
    weights = conv_weight, conv_bias, x_proj_weight, dt_proj_weight, dt_bias, A, D
    _check(xz, weights)
    run = resolve_beside("mamba_inner", "selective_scan", xz.device.type)
    return _compose(xz, weights, reverse) if run is None else run(xz, weights, reverse)


def bidirectional_mamba_inner(xz: Tensor, weights: tuple, weights_reverse: tuple) -> Tensor:
    """Sum of :func:`mamba_inner` forwards and, with parameters of its own, in reverse.

    Args:
        xz: Input of the convolutions and gate side by side, (B, L, 2 D).
        weights: The arguments of :func:`mamba_inner` from ``conv_weight`` to ``D``, in that order.
        weights_reverse: The same of the reverse direction.

    Returns:
        The sum of the gated outputs, (B, L, D).

    Raises:
        ValueError: A shape does not fit, or is empty; tensors are on different devices.
        TypeError: A tensor is not of real floating dtype.

    Source: Vision Mamba, Zhu et al. 2024, section 3.3. Deviation: the sum is not divided.
    """
    for direction in (weights, weights_reverse):
        _check(xz, direction)
    run = resolve_beside("bidirectional_mamba_inner", "selective_scan", xz.device.type)
    if run is None:
        return _compose(xz, weights, False) + _compose(xz, weights_reverse, True)
    return run(xz, weights, weights_reverse)


def _compose(xz: Tensor, weights: tuple, reverse: bool) -> Tensor:
    """The same from the single operators, differentiated by autograd."""
    conv_weight, conv_bias, x_proj_weight, dt_proj_weight, dt_bias, A, D = weights
    # Channel-last all the way: every (B, D, L) operand is a transposed view of (B, L, D) memory.
    x, z = xz.transpose(1, 2).chunk(2, dim=1)
    u = causal_conv1d(x, conv_weight, conv_bias, "silu", reverse=reverse)
    rank, states = dt_proj_weight.shape[1], A.shape[1]
    projected = F.linear(u.transpose(1, 2), x_proj_weight.to(u.dtype))
    steps, B, C = projected.split([rank, states, states], dim=-1)
    delta = F.linear(steps, dt_proj_weight.to(steps.dtype)).transpose(1, 2)
    B, C = B.transpose(1, 2), C.transpose(1, 2)
    y = selective_scan(u, delta, A, B, C, D, z, dt_bias, delta_softplus=True, reverse=reverse)
    return y.transpose(1, 2)


def _check(xz: Tensor, weights: tuple) -> None:
    conv_weight, conv_bias, x_proj_weight, dt_proj_weight, dt_bias, A, D = weights
    check_floating(xz=xz, conv_weight=conv_weight, conv_bias=conv_bias, x_proj_weight=x_proj_weight)
    check_floating(xz=xz, dt_proj_weight=dt_proj_weight, dt_bias=dt_bias, A=A, D=D)
    check_rank("xz", xz, 3, "(B, L, 2 D)")
    check_rank("A", A, 2, "(D, N)")
    channels, states = A.shape
    check_shape("xz", xz, (*xz.shape[:2], 2 * channels), "(B, L, 2 D)")
    check_rank("conv_weight", conv_weight, 2, "(D, W)")
    check_shape("conv_weight", conv_weight, (channels, conv_weight.shape[1]), "(D, W)")
    check_rank("dt_proj_weight", dt_proj_weight, 2, "(D, R)")
    rank = dt_proj_weight.shape[1]
    check_shape("dt_proj_weight", dt_proj_weight, (channels, rank), "(D, R)")
    check_shape("x_proj_weight", x_proj_weight, (rank + 2 * states, channels), "(R + 2 N, D)")
    for name, vector in (("conv_bias", conv_bias), ("dt_bias", dt_bias), ("D", D)):
        check_shape(name, vector, (channels,), "(D,)")
    check_not_empty(D=channels, L=xz.shape[1], W=conv_weight.shape[1], R=rank, N=states)
