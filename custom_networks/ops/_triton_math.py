"""Scalar functions of the Triton kernels, accurate to float32 with the approximate exponential of the hardware.

Only operations that Triton's interpreter knows too are used, so that tests without a GPU run the same formulas.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def softplus(x):
    """log(1 + exp(x)) with full relative accuracy for small results.

    The hardware's logarithm is accurate only absolutely, so log1p(e) = 2 atanh(e / (2 + e)) is summed as a series; its
    exponential is accurate where its argument is.
    """
    # exp(-|x|), with the part of the exponent that rounding loses; smaller than exp(-104) is zero in float32.
    below = -tl.abs(x)
    below = tl.where(below < -104.0, -104.0, below)
    exponent = below * LOG2_E
    lost = tl.fma(below, LOG2_E, -exponent)
    e = tl.exp2(exponent) * (1.0 + LN_2 * lost)
    s = e / (2.0 + e)
    q = s * s
    series = q * (1.0 / 15) + 1.0 / 13
    series = q * series + 1.0 / 11
    series = q * series + 1.0 / 9
    series = q * series + 1.0 / 7
    series = q * series + 1.0 / 5
    series = q * series + 1.0 / 3
    series = q * series + 1.0
    return tl.where(x > 0, x, 0.0) + 2.0 * s * series


@triton.jit
def sigmoid(x):
    """Logistic function."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def step_size(raw, SOFTPLUS: tl.constexpr):
    """Discretisation step from its raw value."""
    if SOFTPLUS:
        raw = softplus(raw)
    return raw


@triton.jit
def scattered(index):
    """``index`` itself, as if it were not contiguous.

    Where the compiler sees that numbers are contiguous in memory it spreads them over lanes, to read four at once. The
    sequential kernels want the states of a channel in one lane.
    """
    return tl.where(index >= 0, index, 0)


@triton.jit
def first_row(length, k, DIRECTION: tl.constexpr):
    """Position at which a scan starts, of 64 bits as ``k`` is, and the sign of its steps.

    ``DIRECTION`` is 0 (forwards), 1 (in reverse) or 2: forwards for ``k`` = 0, in reverse for ``k`` = 1.
    """
    if DIRECTION == 2:
        return k * (length - 1), (1 - 2 * k).to(tl.int32)
    if DIRECTION == 1:
        return k * 0 + length - 1, -1
    return k * 0, 1
