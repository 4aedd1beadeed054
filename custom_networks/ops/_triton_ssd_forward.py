"""Triton kernels of the state-space dual scan, forward: chunks of 64 steps as matrix products.

``inner_products`` multiplies C and B of a chunk, once for all heads of a group; ``outer_products`` gains the state that
a chunk adds; ``pass_states`` hands states from chunk to chunk; ``outputs`` adds what a chunk sees of itself and of the
state that enters it. What limits them is the tensor cores, in three TF32 products for each float32 one.

Decays are sums of logarithms. Sums from the start and to the end of a chunk are taken as they are needed; a decay
between two steps is a difference, and so that a large step does not blur small ones behind it, differences are
float64.

Source: Mamba-2, Dao and Gu 2024, section 6. Deviations: B and C are not repeated for heads; ``reverse``.
"""

# ruff: noqa: RUF005 - kernels cannot unpack tuples

from __future__ import annotations

import triton
import triton.language as tl

from custom_networks.ops._triton_math import LOG2_E, first_row, sigmoid, step_size


@triton.jit
def decays(dt, A, bias, b, h, begin, row, sign, length, heads, Q: tl.constexpr, SOFTPLUS: tl.constexpr):
    """Of the Q steps of a chunk: positions, whether they exist, raw step sizes, step sizes, logarithms of decays.

    dt (B, L, H), dense; A, bias (H,); logarithms to base 2. Steps behind the end have size zero.
    """
    step = begin + tl.arange(0, Q)
    here = step < length
    at = row + sign * step
    raw = tl.load(dt + (b * length + at) * heads + h, mask=here, other=0.0)
    if bias is not None:
        raw += tl.load(bias + h)
    size = tl.where(here, step_size(raw, SOFTPLUS), 0.0)
    return at, here, raw, size, size * (tl.load(A + h) * LOG2_E)


@triton.jit
def to_end(dt, A, bias, b, h, begin, row, sign, length, heads, Q: tl.constexpr, SOFTPLUS: tl.constexpr):
    """Decay of each step of a chunk on the way to the end of the chunk."""
    # The logarithms of the steps behind, read again one step further: sums of these never cancel.
    step = begin + 1 + tl.arange(0, Q)
    behind = (step < length) & (tl.arange(0, Q) < Q - 1)
    raw = tl.load(dt + (b * length + row + sign * step) * heads + h, mask=behind, other=0.0)
    if bias is not None:
        raw += tl.load(bias + h)
    log = tl.where(behind, step_size(raw, SOFTPLUS), 0.0) * (tl.load(A + h) * LOG2_E)
    return tl.exp2(tl.cumsum(log, 0, reverse=True))


@triton.jit
def between(log, Q: tl.constexpr):
    """Decay from step j to step i of a chunk at ``[i, j]``, zero for j > i."""
    total = tl.cumsum(log.to(tl.float64), 0)
    i, j = tl.arange(0, Q)[:, None], tl.arange(0, Q)[None, :]
    return tl.where(i >= j, tl.exp2((total[:, None] - total[None, :]).to(tl.float32)), 0.0)


@triton.jit
def inner_products(
    B,
    C,
    products,
    B_b,
    B_t,
    B_g,
    C_b,
    C_t,
    C_g,
    length,
    groups,
    chunks,
    N,
    Q: tl.constexpr,
    STATES: tl.constexpr,
    DIRECTION: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """``C[i] B[j]`` at ``[i, j]`` of products (B, chunks, G, Q, Q); B, C (B, L, G, N) by strides."""
    program = tl.program_id(0)
    g = program % groups
    chunk = (program // groups) % chunks
    b = (program // groups // chunks).to(tl.int64)
    row, sign = first_row(length, b * 0, DIRECTION)
    step = chunk * Q + tl.arange(0, Q)
    at = row + sign * step
    n = tl.arange(0, STATES)
    total = tl.zeros((Q, Q), tl.float32)
    B += b * B_b + g * B_g
    C += b * C_b + g * C_g
    for start in range(0, N, STATES):
        here = (step < length)[:, None] & (n[None, :] < N - start)
        of_B = tl.load(B + start + at[:, None] * B_t + n[None, :], mask=here, other=0.0).to(tl.float32)
        of_C = tl.load(C + start + at[:, None] * C_t + n[None, :], mask=here, other=0.0).to(tl.float32)
        total = tl.dot(of_C, tl.trans(of_B), total, input_precision=PRECISION)
    place = program.to(tl.int64) * Q * Q + tl.arange(0, Q)[:, None] * Q + tl.arange(0, Q)[None, :]
    tl.store(products + place, total)


@triton.jit
def outer_products(
    x,
    gate,
    dt,
    rows,
    A,
    bias,
    states,
    totals,
    x_b,
    x_t,
    x_h,
    gate_b,
    gate_t,
    gate_h,
    rows_b,
    rows_t,
    rows_g,
    length,
    heads,
    per_group,
    chunks,
    P,
    N,
    pieces,
    Q: tl.constexpr,
    WIDTH: tl.constexpr,
    STATES: tl.constexpr,
    DIRECTION: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    ADJOINT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """What a chunk adds to the state that leaves it: the sum of ``weight[j] x[j] rows[j]^T``.

    x and gate (B, L, H, P), rows (B, L, G, N) by strides; dt (B, L, H); states (B, chunks, H, P, N), totals (B, chunks,
    H), the logarithm of the whole chunk's decay. The weight of a step is its size times its decay to the end.

    ``ADJOINT``: x is a gradient, times ``silu(gate)`` if there is a gate, rows is C, and the sum is what the chunk adds
    to the adjoint of the state that enters it; the weight is the decay from the start.
    """
    program = tl.program_id(0)
    piece = program % pieces
    h = (program // pieces) % heads
    chunk = (program // pieces // heads) % chunks
    b = (program // pieces // heads // chunks).to(tl.int64)
    row, sign = first_row(length, b * 0, DIRECTION)
    at, here, raw, size, log = decays(dt, A, bias, b, h, chunk * Q, row, sign, length, heads, Q, SOFTPLUS)
    if ADJOINT:
        weight = tl.exp2(tl.cumsum(log, 0))
    else:
        weight = size * to_end(dt, A, bias, b, h, chunk * Q, row, sign, length, heads, Q, SOFTPLUS)
    p, n = tl.arange(0, WIDTH), piece * STATES + tl.arange(0, STATES)
    inside = here[:, None] & (p < P)[None, :]
    now = tl.load(x + b * x_b + h * x_h + at[:, None] * x_t + p[None, :], mask=inside, other=0.0).to(tl.float32)
    if gate is not None:
        z = tl.load(gate + b * gate_b + h * gate_h + at[:, None] * gate_t + p[None, :], mask=inside, other=0.0)
        z = z.to(tl.float32)
        now *= z * sigmoid(z)
    rows += b * rows_b + (h // per_group) * rows_g
    inside = here[:, None] & (n < N)[None, :]
    row_now = tl.load(rows + at[:, None] * rows_t + n[None, :], mask=inside, other=0.0).to(tl.float32)
    gained = tl.dot(tl.trans(now * weight[:, None]), row_now, input_precision=PRECISION)
    of_chunk = (b * chunks + chunk) * heads + h
    fits = (p < P)[:, None] & (n < N)[None, :]
    tl.store(states + (of_chunk * P + p[:, None]) * N + n[None, :], gained, mask=fits)
    if piece == 0:
        tl.store(totals + of_chunk, tl.sum(log, 0))


@triton.jit
def pass_states(
    states,
    totals,
    initial,
    final,
    heads,
    chunks,
    size,
    blocks,
    BACK: tl.constexpr,
    SIZE: tl.constexpr,
    AHEAD: tl.constexpr,
):
    """What chunks add, in place, to the states that enter them; ``size`` is P N. ``BACK``: from the last chunk on."""
    program = tl.program_id(0)
    index = (program % blocks) * SIZE + tl.arange(0, SIZE)
    h = (program // blocks) % heads
    b = (program // blocks // heads).to(tl.int64)
    inside = index < size
    if initial is not None:
        state = tl.load(initial + (b * heads + h) * size + index, mask=inside, other=0.0)
    else:
        state = tl.zeros((SIZE,), tl.float32)
    for start in range(0, chunks, AHEAD):
        gains = ()
        for i in tl.static_range(AHEAD):
            of_chunk = (b * chunks + (chunks - 1 - start - i if BACK else start + i)) * heads + h
            here = index < tl.where(chunks - start > i, size, 0)
            gains = gains + (tl.load(states + of_chunk * size + index, mask=here, other=0.0),)
        for i in tl.static_range(AHEAD):
            of_chunk = (b * chunks + (chunks - 1 - start - i if BACK else start + i)) * heads + h
            here = index < tl.where(chunks - start > i, size, 0)
            tl.store(states + of_chunk * size + index, state, mask=here)
            total = tl.load(totals + of_chunk, mask=chunks - start > i, other=0.0)
            state = tl.exp2(total) * state + gains[i]
    tl.store(final + (b * heads + h) * size + index, state, mask=inside)


@triton.jit
def outputs(
    x,
    z,
    dt,
    C,
    A,
    D,
    bias,
    products,
    states,
    out,
    x_b,
    x_t,
    x_h,
    z_b,
    z_t,
    z_h,
    C_b,
    C_t,
    C_g,
    length,
    heads,
    per_group,
    chunks,
    P,
    N,
    Q: tl.constexpr,
    WIDTH: tl.constexpr,
    STATES: tl.constexpr,
    DIRECTION: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Output (B, L, H, P), dense, of one head of one chunk; D (H, P), other shapes as above."""
    program = tl.program_id(0)
    h = program % heads
    chunk = (program // heads) % chunks
    b = (program // heads // chunks).to(tl.int64)
    g, groups = h // per_group, heads // per_group
    row, sign = first_row(length, b * 0, DIRECTION)
    at, here, raw, size, log = decays(dt, A, bias, b, h, chunk * Q, row, sign, length, heads, Q, SOFTPLUS)
    p, n = tl.arange(0, WIDTH), tl.arange(0, STATES)
    inside = here[:, None] & (p < P)[None, :]
    now = tl.load(x + b * x_b + h * x_h + at[:, None] * x_t + p[None, :], mask=inside, other=0.0).to(tl.float32)

    y = tl.zeros((Q, WIDTH), tl.float32)
    C += b * C_b + g * C_g
    states += ((b * chunks + chunk) * heads + h) * P * N
    for start in range(0, N, STATES):
        left = n < N - start
        of_C = tl.load(C + start + at[:, None] * C_t + n[None, :], mask=here[:, None] & left[None, :], other=0.0).to(
            tl.float32
        )
        enters = tl.load(states + start + p[None, :] * N + n[:, None], mask=left[:, None] & (p < P)[None, :], other=0.0)
        y = tl.dot(of_C, enters, y, input_precision=PRECISION)
    y *= tl.exp2(tl.cumsum(log, 0))[:, None]
    place = (((b * chunks + chunk) * groups + g) * Q + tl.arange(0, Q)[:, None]) * Q + tl.arange(0, Q)[None, :]
    mixed = tl.load(products + place) * between(log, Q) * size[None, :]
    y = tl.dot(mixed, now, y, input_precision=PRECISION)
    if D is not None:
        y += tl.load(D + h * P + p, mask=p < P, other=0.0)[None, :] * now
    if z is not None:
        gate = tl.load(z + b * z_b + h * z_h + at[:, None] * z_t + p[None, :], mask=inside, other=0.0).to(tl.float32)
        y *= gate * sigmoid(gate)
    place = ((b * length + at[:, None]) * heads + h) * P + p[None, :]
    tl.store(out + place, y.to(out.dtype.element_ty), mask=inside)
