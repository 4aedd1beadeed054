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
def decays(dt, A, bias, h, left, sign, heads, Q: tl.constexpr, SOFTPLUS: tl.constexpr):
    """Of the Q steps of a chunk: raw step sizes, step sizes, logarithms of decays to base 2.

    dt points at the first step, head 0; A, bias (H,). Steps behind the ``left`` that are left have size zero.
    """
    step = tl.arange(0, Q)
    raw = tl.load(dt + h + sign * step * heads, mask=step < left, other=0.0)
    if bias is not None:
        raw += tl.load(bias + h)
    size = tl.where(step < left, step_size(raw, SOFTPLUS), 0.0)
    return raw, size, size * (tl.load(A + h) * LOG2_E)


@triton.jit
def to_end(dt, A, bias, h, left, sign, heads, Q: tl.constexpr, SOFTPLUS: tl.constexpr):
    """Decay of each step of a chunk on the way to the end of the chunk; arguments as of :func:`decays`."""
    # The logarithms of the steps behind, read again one step further: sums of these never cancel.
    step = tl.arange(0, Q) + 1
    behind = step < tl.minimum(left, Q)
    raw = tl.load(dt + h + sign * step * heads, mask=behind, other=0.0)
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


@triton.jit(do_not_specialize=["length", "groups", "chunks"])
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
    row += sign * chunk * Q
    step = tl.arange(0, Q)
    at = sign * step
    n = tl.arange(0, STATES)
    total = tl.zeros((Q, Q), tl.float32)
    B += b * B_b + g * B_g + row * B_t
    C += b * C_b + g * C_g + row * C_t
    for start in range(0, N, STATES):
        here = (step < length - chunk * Q)[:, None] & (n[None, :] < N - start)
        of_B = tl.load(B + start + at[:, None] * B_t + n[None, :], mask=here, other=0.0).to(tl.float32)
        of_C = tl.load(C + start + at[:, None] * C_t + n[None, :], mask=here, other=0.0).to(tl.float32)
        total = tl.dot(of_C, tl.trans(of_B), total, input_precision=PRECISION)
    products += program.to(tl.int64) * Q * Q
    tl.store(products + (step[:, None] * Q + step[None, :]), total)


@triton.jit(do_not_specialize=["length", "heads", "per_group", "chunks", "wide", "deep"])
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
    wide,
    deep,
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

    A program has one of ``wide`` tiles of P and one of ``deep`` tiles of N.
    """
    program = tl.program_id(0)
    pieces = wide * deep
    h = (program // pieces) % heads
    chunk = (program // pieces // heads) % chunks
    b = (program // pieces // heads // chunks).to(tl.int64)
    row, sign = first_row(length, b * 0, DIRECTION)
    row += sign * chunk * Q
    left = length - chunk * Q
    dt += (b * length + row) * heads
    _, size, log = decays(dt, A, bias, h, left, sign, heads, Q, SOFTPLUS)
    if ADJOINT:
        weight = tl.exp2(tl.cumsum(log, 0))
    else:
        weight = size * to_end(dt, A, bias, h, left, sign, heads, Q, SOFTPLUS)
    p = (program % wide) * WIDTH + tl.arange(0, WIDTH)
    n = (program // wide) % deep * STATES + tl.arange(0, STATES)
    here = tl.arange(0, Q) < left
    at = (sign * tl.arange(0, Q))[:, None]
    inside = here[:, None] & (p < P)[None, :]
    x += b * x_b + h * x_h + row * x_t
    now = tl.load(x + (at * x_t + p[None, :]), mask=inside, other=0.0).to(tl.float32)
    if gate is not None:
        gate += b * gate_b + h * gate_h + row * gate_t
        z = tl.load(gate + (at * gate_t + p[None, :]), mask=inside, other=0.0).to(tl.float32)
        now *= z * sigmoid(z)
    rows += b * rows_b + (h // per_group) * rows_g + row * rows_t
    inside = here[:, None] & (n < N)[None, :]
    row_now = tl.load(rows + (at * rows_t + n[None, :]), mask=inside, other=0.0).to(tl.float32)
    gained = tl.dot(tl.trans(now * weight[:, None]), row_now, input_precision=PRECISION)
    of_chunk = (b * chunks + chunk) * heads + h
    fits = (p < P)[:, None] & (n < N)[None, :]
    tl.store(states + of_chunk * P * N + (p[:, None] * N + n[None, :]), gained, mask=fits)
    tl.store(totals + of_chunk, tl.sum(log, 0), mask=program % pieces == 0)


@triton.jit(do_not_specialize=["heads", "chunks", "blocks"])
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


@triton.jit(do_not_specialize=["length", "heads", "per_group", "chunks", "wide"])
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
    wide,
    Q: tl.constexpr,
    WIDTH: tl.constexpr,
    STATES: tl.constexpr,
    DIRECTION: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Output (B, L, H, P), dense: one of ``wide`` tiles of a head of a chunk. D (H, P), other shapes as above."""
    program = tl.program_id(0)
    h = (program // wide) % heads
    chunk = (program // wide // heads) % chunks
    b = (program // wide // heads // chunks).to(tl.int64)
    g, groups = h // per_group, heads // per_group
    row, sign = first_row(length, b * 0, DIRECTION)
    row += sign * chunk * Q
    left = length - chunk * Q
    dt += (b * length + row) * heads
    _, size, log = decays(dt, A, bias, h, left, sign, heads, Q, SOFTPLUS)
    p, n = (program % wide) * WIDTH + tl.arange(0, WIDTH), tl.arange(0, STATES)
    step = tl.arange(0, Q)
    at = (sign * step)[:, None]
    here = (step < left)[:, None]
    inside = here & (p < P)[None, :]

    y = tl.zeros((Q, WIDTH), tl.float32)
    C += b * C_b + g * C_g + row * C_t
    states += ((b * chunks + chunk) * heads + h) * P * N
    for start in range(0, N, STATES):
        some = n < N - start
        rows = tl.load(C + start + (at * C_t + n[None, :]), mask=here & some[None, :], other=0.0).to(tl.float32)
        fits = some[:, None] & (p < P)[None, :]
        enters = tl.load(states + start + (p[None, :] * N + n[:, None]), mask=fits, other=0.0)
        y = tl.dot(rows, enters, y, input_precision=PRECISION)
    y *= tl.exp2(tl.cumsum(log, 0))[:, None]
    products += ((b * chunks + chunk) * groups + g) * Q * Q
    mixed = tl.load(products + (step[:, None] * Q + step[None, :])) * between(log, Q) * size[None, :]
    x += b * x_b + h * x_h + row * x_t
    now = tl.load(x + (at * x_t + p[None, :]), mask=inside, other=0.0).to(tl.float32)
    y = tl.dot(mixed, now, y, input_precision=PRECISION)
    if D is not None:
        y += tl.load(D + h * P + p, mask=p < P, other=0.0)[None, :] * now
    if z is not None:
        z += b * z_b + h * z_h + row * z_t
        gate = tl.load(z + (at * z_t + p[None, :]), mask=inside, other=0.0).to(tl.float32)
        y *= gate * sigmoid(gate)
    out += ((b * length + row) * heads + h) * P
    tl.store(out + (at * heads * P + p[None, :]), y.to(out.dtype.element_ty), mask=inside)
