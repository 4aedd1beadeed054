"""Triton kernels of the state-space dual scan, backward: the same chunks, without atomics.

The adjoint of the states passes from chunk to chunk as the states do, by the forward kernels. Then
``step_gradients`` has all that belongs to one head of one chunk, and ``row_gradients`` the sums over heads that are the
gradients of B and C.

Source: the transposed products of Mamba-2, Dao and Gu 2024, section 6. Deviations: the gradient of a decay is summed
over the pairs of steps that it lies between, so that nothing large cancels; no atomics, hence the same bits in every
run.
"""

from __future__ import annotations

import triton
import triton.language as tl

from custom_networks.ops._triton_math import first_row, sigmoid
from custom_networks.ops._triton_ssd_forward import between, decays, to_end


@triton.jit
def step_gradients(
    grad,
    x,
    z,
    dt,
    B,
    C,
    A,
    D,
    bias,
    products,
    states,
    adjoints,
    dx,
    dz,
    ddt,
    dA,
    dD,
    dbias,
    grad_b,
    grad_t,
    grad_h,
    x_b,
    x_t,
    x_h,
    z_b,
    z_t,
    z_h,
    B_b,
    B_t,
    B_g,
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
    """Gradients of x, z, dt, A, D and dt_bias from one head of one chunk.

    Shapes as in the forward kernels; dx, dz (B, L, H, P) and ddt (B, L, H), dense; parts dA, dbias (B, chunks, H) and
    dD (B, chunks, H, P); adjoints (B, chunks, H, P, N), of the states that leave the chunks.
    """
    program = tl.program_id(0)
    h = program % heads
    chunk = (program // heads) % chunks
    b = (program // heads // chunks).to(tl.int64)
    g, groups = h // per_group, heads // per_group
    of_chunk = (b * chunks + chunk) * heads + h
    row, sign = first_row(length, b * 0, DIRECTION)
    at, here, raw, size, log = decays(dt, A, bias, b, h, chunk * Q, row, sign, length, heads, Q, SOFTPLUS)
    from_start = tl.exp2(tl.cumsum(log, 0))
    weight = to_end(dt, A, bias, b, h, chunk * Q, row, sign, length, heads, Q, SOFTPLUS)
    p, n = tl.arange(0, WIDTH), tl.arange(0, STATES)
    inside = here[:, None] & (p < P)[None, :]

    # What enters the chunk, seen by its steps, and what its steps give to the state that leaves it.
    entering = tl.zeros((Q, WIDTH), tl.float32)
    leaving = tl.zeros((Q, WIDTH), tl.float32)
    across = tl.zeros((STATES,), tl.float32)
    B += b * B_b + g * B_g
    C += b * C_b + g * C_g
    for start in range(0, N, STATES):
        left = n < N - start
        of_rows = here[:, None] & left[None, :]
        of_states = left[:, None] & (p < P)[None, :]
        place = of_chunk * P * N + start + p[None, :] * N + n[:, None]
        state = tl.load(states + place, mask=of_states, other=0.0)
        adjoint = tl.load(adjoints + place, mask=of_states, other=0.0)
        of_C = tl.load(C + start + at[:, None] * C_t + n[None, :], mask=of_rows, other=0.0).to(tl.float32)
        entering = tl.dot(of_C, state, entering, input_precision=PRECISION)
        of_B = tl.load(B + start + at[:, None] * B_t + n[None, :], mask=of_rows, other=0.0).to(tl.float32)
        leaving = tl.dot(of_B, adjoint, leaving, input_precision=PRECISION)
        across += tl.sum(state * adjoint, 1)
    entering *= from_start[:, None]
    leaving *= weight[:, None]

    now = tl.load(x + b * x_b + h * x_h + at[:, None] * x_t + p[None, :], mask=inside, other=0.0).to(tl.float32)
    gy = tl.load(grad + b * grad_b + h * grad_h + at[:, None] * grad_t + p[None, :], mask=inside, other=0.0)
    gy = gy.to(tl.float32)
    i, j = tl.arange(0, Q)[:, None], tl.arange(0, Q)[None, :]
    link = between(log, Q)
    mixed = tl.load(products + (((b * chunks + chunk) * groups + g) * Q + i) * Q + j) * link
    dense = ((b * length + at[:, None]) * heads + h) * P + p[None, :]
    skip = tl.load(D + h * P + p, mask=p < P, other=0.0)[None, :] if D is not None else 0.0
    if z is not None:
        y = tl.dot(mixed * size[None, :], now, entering, input_precision=PRECISION) + skip * now
        gate = tl.load(z + b * z_b + h * z_h + at[:, None] * z_t + p[None, :], mask=inside, other=0.0).to(tl.float32)
        open_ = sigmoid(gate)
        slope = gy * y * open_ * (1.0 + gate * (1.0 - open_))
        tl.store(dz + dense, slope.to(dz.dtype.element_ty), mask=inside)
        gy *= gate * open_
    seen = tl.sum(gy * entering, 1)
    given = tl.sum(now * leaving, 1) * size
    # Of the pairs of steps j < i, what the gradient owes to their decay; a decay lies between the pairs around it.
    pairs = tl.dot(gy, tl.trans(now), input_precision=PRECISION) * size[None, :] * mixed
    later = tl.where(i <= j, 1.0, 0.0)
    around = tl.dot(later, tl.where(i > j, pairs, 0.0), input_precision=PRECISION)
    dlog = tl.sum(tl.where(j < i, around + given[None, :], 0.0), 1) + tl.sum(tl.where(j >= i, seen[None, :], 0.0), 1)
    dlog += tl.exp2(tl.sum(log, 0)) * tl.sum(across, 0)

    leaving = tl.dot(tl.trans(mixed), gy, leaving, input_precision=PRECISION)
    tl.store(dx + dense, (size[:, None] * leaving + skip * gy).to(dx.dtype.element_ty), mask=inside)
    slope = tl.sum(now * leaving, 1) + tl.load(A + h) * dlog
    if SOFTPLUS:
        slope *= sigmoid(raw)
    slope = tl.where(here, slope, 0.0)
    tl.store(ddt + (b * length + at) * heads + h, slope, mask=here)
    tl.store(dA + of_chunk, tl.sum(size * dlog, 0))
    if bias is not None:
        tl.store(dbias + of_chunk, tl.sum(slope, 0))
    if D is not None:
        tl.store(dD + of_chunk * P + p, tl.sum(gy * now, 0), mask=p < P)


@triton.jit
def row_gradients(
    grad,
    x,
    z,
    dt,
    B,
    C,
    A,
    bias,
    states,
    adjoints,
    dB,
    dC,
    grad_b,
    grad_t,
    grad_h,
    x_b,
    x_t,
    x_h,
    z_b,
    z_t,
    z_h,
    B_b,
    B_t,
    B_g,
    C_b,
    C_t,
    C_g,
    length,
    heads,
    per_group,
    chunks,
    P,
    N,
    pieces,
    parts,
    repeats,
    batch,
    Q: tl.constexpr,
    WIDTH: tl.constexpr,
    STATES: tl.constexpr,
    DIRECTION: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Parts dB and dC (parts, B, L, G, N) from ``repeats`` heads of a group in one chunk, ``STATES`` columns."""
    program = tl.program_id(0)
    groups = heads // per_group
    piece = program % pieces
    part = (program // pieces) % parts
    g = (program // pieces // parts) % groups
    chunk = (program // pieces // parts // groups) % chunks
    b = (program // pieces // parts // groups // chunks).to(tl.int64)
    row, sign = first_row(length, b * 0, DIRECTION)
    p, n = tl.arange(0, WIDTH), piece * STATES + tl.arange(0, STATES)
    at = row + sign * (chunk * Q + tl.arange(0, Q))
    here = chunk * Q + tl.arange(0, Q) < length
    inside = here[:, None] & (p < P)[None, :]
    of_states = (p < P)[:, None] & (n < N)[None, :]

    pairs = tl.zeros((Q, Q), tl.float32)
    of_B = tl.zeros((Q, STATES), tl.float32)
    of_C = tl.zeros((Q, STATES), tl.float32)
    for repeat in range(repeats):
        # A part may have fewer heads than others; a head too many adds nothing.
        inner = part * repeats + repeat
        h = g * per_group + tl.minimum(inner, per_group - 1)
        used = inside & (p[None, :] < tl.where(inner < per_group, P, 0))
        _, _, _, size, log = decays(dt, A, bias, b, h, chunk * Q, row, sign, length, heads, Q, SOFTPLUS)
        weight = size * to_end(dt, A, bias, b, h, chunk * Q, row, sign, length, heads, Q, SOFTPLUS)
        now = tl.load(x + b * x_b + h * x_h + at[:, None] * x_t + p[None, :], mask=used, other=0.0).to(tl.float32)
        gy = tl.load(grad + b * grad_b + h * grad_h + at[:, None] * grad_t + p[None, :], mask=used, other=0.0)
        gy = gy.to(tl.float32)
        if z is not None:
            gate = tl.load(z + b * z_b + h * z_h + at[:, None] * z_t + p[None, :], mask=used, other=0.0).to(tl.float32)
            gy *= gate * sigmoid(gate)
        pairs += tl.dot(gy, tl.trans(now), input_precision=PRECISION) * size[None, :] * between(log, Q)
        place = (((b * chunks + chunk) * heads + h) * P + p[:, None]) * N + n[None, :]
        state = tl.load(states + place, mask=of_states, other=0.0)
        of_C = tl.dot(gy * tl.exp2(tl.cumsum(log, 0))[:, None], state, of_C, input_precision=PRECISION)
        adjoint = tl.load(adjoints + place, mask=of_states, other=0.0)
        of_B = tl.dot(now * weight[:, None], adjoint, of_B, input_precision=PRECISION)
    columns = here[:, None] & (n < N)[None, :]
    rows = tl.load(B + b * B_b + g * B_g + at[:, None] * B_t + n[None, :], mask=columns, other=0.0).to(tl.float32)
    of_C = tl.dot(pairs, rows, of_C, input_precision=PRECISION)
    rows = tl.load(C + b * C_b + g * C_g + at[:, None] * C_t + n[None, :], mask=columns, other=0.0).to(tl.float32)
    of_B = tl.dot(tl.trans(pairs), rows, of_B, input_precision=PRECISION)
    place = (((part * batch + b) * length + at[:, None]) * groups + g) * N + n[None, :]
    tl.store(dB + place, of_B, mask=columns)
    tl.store(dC + place, of_C, mask=columns)
