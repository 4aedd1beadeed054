"""Triton kernels of the depthwise causal convolution: memory-bound, channel-last, nothing transposed.

A program owns a few channels over some tiles of time. Neighbouring taps read rows that the program has just read, from
the nearest cache. The backward kernel keeps the 2 W - 1 rows around a tile in registers and computes the gradient at
the activation's input anew for each of W shifts, which costs arithmetic and saves a pass over memory.
"""

# ruff: noqa: RUF005 - kernels cannot unpack tuples

from __future__ import annotations

import triton
import triton.language as tl

from custom_networks.ops._triton_math import first_row, sigmoid


@triton.jit(do_not_specialize=["length", "blocks", "pieces"])
def convolve(
    x,
    weight,
    bias,
    out,
    x_b,
    x_t,
    length,
    channels,
    blocks,
    pieces,
    WIDTH: tl.constexpr,
    STEPS: tl.constexpr,
    CHANNELS: tl.constexpr,
    DIRECTION: tl.constexpr,
    SILU: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    """``STEPS`` steps of x (B, L, D), by strides, to ``out``, dense; weight (D, WIDTH) and bias (D,) in float32."""
    program = tl.program_id(0)
    channel = (program % blocks) * CHANNELS + tl.arange(0, CHANNELS)
    piece = (program // blocks) % pieces
    b = (program // blocks // pieces).to(tl.int64)
    inside = channel < channels
    step = piece * STEPS + tl.arange(0, STEPS)
    row, sign = first_row(length, b * 0, DIRECTION)
    x += b * x_b + row * x_t
    y = tl.zeros((STEPS, CHANNELS), tl.float32)
    for k in tl.static_range(WIDTH):
        at = step - (WIDTH - 1) + k
        seen = (at >= 0) & (at < length)
        tap = tl.load(weight + channel * WIDTH + k, mask=inside, other=0.0)
        place = (sign * at).to(tl.int64) * x_t
        now = tl.load(x + place[:, None] + channel[None, :], mask=seen[:, None] & inside[None, :], other=0.0)
        y += tap[None, :] * now.to(tl.float32)
    if HAS_BIAS:
        y += tl.load(bias + channel, mask=inside, other=0.0)[None, :]
    if SILU:
        y *= sigmoid(y)
    place = (b * length + row + sign * step) * channels
    here = (step < length)[:, None] & inside[None, :]
    tl.store(out + place[:, None] + channel[None, :], y.to(out.dtype.element_ty), mask=here)


@triton.jit(do_not_specialize=["length", "blocks", "pieces", "tiles"])
def convolve_back(
    grad,
    x,
    weight,
    bias,
    dx,
    dweight,
    dbias,
    grad_b,
    grad_t,
    x_b,
    x_t,
    length,
    channels,
    blocks,
    pieces,
    tiles,
    WIDTH: tl.constexpr,
    STEPS: tl.constexpr,
    CHANNELS: tl.constexpr,
    DIRECTION: tl.constexpr,
    SILU: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    """Gradients of ``tiles`` times ``STEPS`` steps; dx (B, L, D), dense; parts dweight (B, pieces, WIDTH, D), dbias."""
    program = tl.program_id(0)
    channel = (program % blocks) * CHANNELS + tl.arange(0, CHANNELS)
    piece = (program // blocks) % pieces
    b = (program // blocks // pieces).to(tl.int64)
    inside = channel < channels
    row, sign = first_row(length, b * 0, DIRECTION)
    grad += b * grad_b + row * grad_t
    x += b * x_b + row * x_t
    shift = tl.load(bias + channel, mask=inside, other=0.0)[None, :] if HAS_BIAS else 0.0
    taps = ()
    sums = ()
    zero = tl.zeros((STEPS, CHANNELS), tl.float32)
    total = zero
    for k in tl.static_range(WIDTH):
        taps = taps + (tl.load(weight + channel * WIDTH + k, mask=inside, other=0.0)[None, :],)
        sums = sums + (zero,)
    for tile in range(tiles):
        step = (piece * tiles + tile) * STEPS + tl.arange(0, STEPS)
        rows = ()
        for m in tl.static_range(2 * WIDTH - 1):
            at = step - (WIDTH - 1) + m
            seen = ((at >= 0) & (at < length))[:, None] & inside[None, :]
            place = (sign * at).to(tl.int64) * x_t
            rows = rows + (tl.load(x + place[:, None] + channel[None, :], mask=seen, other=0.0).to(tl.float32),)
        slope = zero
        for j in tl.static_range(WIDTH):
            at = step + j
            place = (sign * at).to(tl.int64) * grad_t
            seen = (at < length)[:, None] & inside[None, :]
            g = tl.load(grad + place[:, None] + channel[None, :], mask=seen, other=0.0).to(tl.float32)
            if SILU:
                y = zero + shift
                for k in tl.static_range(WIDTH):
                    y += taps[k] * rows[j + k]
                open_ = sigmoid(y)
                g *= open_ * (1.0 + y * (1.0 - open_))
            slope += taps[WIDTH - 1 - j] * g
            if j == 0:
                total += g
                more = ()
                for k in tl.static_range(WIDTH):
                    more = more + (sums[k] + g * rows[k],)
                sums = more
        place = (b * length + row + sign * step) * channels
        here = (step < length)[:, None] & inside[None, :]
        tl.store(dx + place[:, None] + channel[None, :], slope.to(dx.dtype.element_ty), mask=here)
    part = b * pieces + piece
    for k in tl.static_range(WIDTH):
        tl.store(dweight + (part * WIDTH + k) * channels + channel, tl.sum(sums[k], 0), mask=inside)
    if HAS_BIAS:
        tl.store(dbias + part * channels + channel, tl.sum(total, 0), mask=inside)
