"""Triton kernels of the state-space dual scan, backward: the same chunks, without atomics.

The adjoint of the states passes from chunk to chunk as the states do, by the forward kernels. Then, for each head of
each chunk, ``output_gradients`` looks at what entered the chunk, ``input_gradients`` at what leaves it, and
``decay_gradients`` at the pairs of its steps; ``row_gradients`` sums over the heads of a group what B and C owe. Each
has few tiles in registers; together they would not fit.

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
def gated(grad, z, at, grad_t, z_t, columns, inside):
    """A tile of the gradient before the gate; grad and z point at the tile's first row."""
    g = tl.load(grad + (at * grad_t + columns), mask=inside, other=0.0).to(tl.float32)
    if z is not None:
        gate = tl.load(z + (at * z_t + columns), mask=inside, other=0.0).to(tl.float32)
        g *= gate * sigmoid(gate)
    return g


@triton.jit(do_not_specialize=["length", "heads", "per_group", "chunks", "wide"])
def output_gradients(
    grad,
    x,
    z,
    dt,
    C,
    A,
    D,
    bias,
    products,
    states,
    dz,
    seen,
    grad_b,
    grad_t,
    grad_h,
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
    """Gradient dz (B, L, H, P) of the gate, if there is one, and what the output owes to the state that enters.

    That is seen (wide, B, L, H), one part for each tile of P. Other shapes as in the forward kernels.
    """
    program = tl.program_id(0)
    h = (program // wide) % heads
    chunk = (program // wide // heads) % chunks
    b = (program // wide // heads // chunks).to(tl.int64)
    batch = tl.num_programs(0) // wide // heads // chunks
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

    entering = tl.zeros((Q, WIDTH), tl.float32)
    C += b * C_b + g * C_g + row * C_t
    states += ((b * chunks + chunk) * heads + h) * P * N
    for start in range(0, N, STATES):
        some = n < N - start
        rows = tl.load(C + start + (at * C_t + n[None, :]), mask=here & some[None, :], other=0.0).to(tl.float32)
        fits = some[:, None] & (p < P)[None, :]
        state = tl.load(states + start + (p[None, :] * N + n[:, None]), mask=fits, other=0.0)
        entering = tl.dot(rows, state, entering, input_precision=PRECISION)
    entering *= tl.exp2(tl.cumsum(log, 0))[:, None]
    grad += b * grad_b + h * grad_h + row * grad_t
    if z is not None:
        z += b * z_b + h * z_h + row * z_t
    gy = gated(grad, z, at, grad_t, z_t, p[None, :], inside)
    seen += (((program % wide) * batch + b) * length + row) * heads + h
    tl.store(seen + sign * step * heads, tl.sum(gy * entering, 1), mask=step < left)
    if z is not None:
        x += b * x_b + h * x_h + row * x_t
        now = tl.load(x + (at * x_t + p[None, :]), mask=inside, other=0.0).to(tl.float32)
        products += ((b * chunks + chunk) * groups + g) * Q * Q
        mixed = tl.load(products + (step[:, None] * Q + step[None, :])) * between(log, Q) * size[None, :]
        y = tl.dot(mixed, now, entering, input_precision=PRECISION)
        if D is not None:
            y += tl.load(D + h * P + p, mask=p < P, other=0.0)[None, :] * now
        gate = tl.load(z + (at * z_t + p[None, :]), mask=inside, other=0.0).to(tl.float32)
        open_ = sigmoid(gate)
        slope = tl.load(grad + (at * grad_t + p[None, :]), mask=inside, other=0.0).to(tl.float32)
        slope *= y * open_ * (1.0 + gate * (1.0 - open_))
        dz += ((b * length + row) * heads + h) * P
        tl.store(dz + (at * heads * P + p[None, :]), slope.to(dz.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["length", "heads", "per_group", "chunks", "wide"])
def input_gradients(
    grad,
    x,
    z,
    dt,
    B,
    A,
    D,
    bias,
    products,
    adjoints,
    dx,
    dD,
    given,
    owed,
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
    """Gradients dx (B, L, H, P), and dD (B, chunks, H, P) of each chunk; adjoints (B, chunks, H, P, N).

    Also what the state that leaves owes to each step, ``given``, and the product of x with the gradient of its product
    with the step size, ``owed``: (wide, B, L, H), one part for each tile of P.
    """
    program = tl.program_id(0)
    h = (program // wide) % heads
    chunk = (program // wide // heads) % chunks
    b = (program // wide // heads // chunks).to(tl.int64)
    batch = tl.num_programs(0) // wide // heads // chunks
    g, groups = h // per_group, heads // per_group
    row, sign = first_row(length, b * 0, DIRECTION)
    row += sign * chunk * Q
    left = length - chunk * Q
    dt += (b * length + row) * heads
    _, size, log = decays(dt, A, bias, h, left, sign, heads, Q, SOFTPLUS)
    weight = to_end(dt, A, bias, h, left, sign, heads, Q, SOFTPLUS)
    p, n = (program % wide) * WIDTH + tl.arange(0, WIDTH), tl.arange(0, STATES)
    step = tl.arange(0, Q)
    at = (sign * step)[:, None]
    here = (step < left)[:, None]
    inside = here & (p < P)[None, :]
    of_chunk = (b * chunks + chunk) * heads + h

    slope = tl.zeros((Q, WIDTH), tl.float32)
    B += b * B_b + g * B_g + row * B_t
    adjoints += of_chunk * P * N
    for start in range(0, N, STATES):
        some = n < N - start
        rows = tl.load(B + start + (at * B_t + n[None, :]), mask=here & some[None, :], other=0.0).to(tl.float32)
        fits = some[:, None] & (p < P)[None, :]
        adjoint = tl.load(adjoints + start + (p[None, :] * N + n[:, None]), mask=fits, other=0.0)
        slope = tl.dot(rows, adjoint, slope, input_precision=PRECISION)
    slope *= weight[:, None]
    x += b * x_b + h * x_h + row * x_t
    now = tl.load(x + (at * x_t + p[None, :]), mask=inside, other=0.0).to(tl.float32)
    rows_out = (((program % wide) * batch + b) * length + row) * heads + h
    tl.store(given + rows_out + sign * step * heads, size * tl.sum(now * slope, 1), mask=step < left)
    grad += b * grad_b + h * grad_h + row * grad_t
    if z is not None:
        z += b * z_b + h * z_h + row * z_t
    gy = gated(grad, z, at, grad_t, z_t, p[None, :], inside)
    products += ((b * chunks + chunk) * groups + g) * Q * Q
    mixed = tl.load(products + (step[:, None] * Q + step[None, :])) * between(log, Q)
    slope = tl.dot(tl.trans(mixed), gy, slope, input_precision=PRECISION)
    tl.store(owed + rows_out + sign * step * heads, tl.sum(now * slope, 1), mask=step < left)
    slope *= size[:, None]
    if D is not None:
        slope += tl.load(D + h * P + p, mask=p < P, other=0.0)[None, :] * gy
        tl.store(dD + of_chunk * P + p, tl.sum(gy * now, 0), mask=p < P)
    dx += ((b * length + row) * heads + h) * P
    tl.store(dx + (at * heads * P + p[None, :]), slope.to(dx.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["length", "heads", "per_group", "chunks", "wide"])
def decay_gradients(
    grad,
    x,
    z,
    dt,
    A,
    bias,
    products,
    states,
    adjoints,
    seen,
    given,
    owed,
    pairs,
    ddt,
    dA,
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
    length,
    heads,
    per_group,
    chunks,
    P,
    N,
    wide,
    Q: tl.constexpr,
    WIDTH: tl.constexpr,
    DIRECTION: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradients ddt (B, L, H), and dA and dbias (B, chunks, H) of each chunk.

    Also pairs (B, chunks, H, Q, Q), the gradient of the products of C and B.
    """
    program = tl.program_id(0)
    h = program % heads
    chunk = (program // heads) % chunks
    b = (program // heads // chunks).to(tl.int64)
    batch = (tl.num_programs(0) // heads // chunks).to(tl.int64)
    g, groups = h // per_group, heads // per_group
    of_chunk = (b * chunks + chunk) * heads + h
    row, sign = first_row(length, b * 0, DIRECTION)
    row += sign * chunk * Q
    left = length - chunk * Q
    dt += (b * length + row) * heads
    raw, size, log = decays(dt, A, bias, h, left, sign, heads, Q, SOFTPLUS)
    step = tl.arange(0, Q)
    i, j = step[:, None], step[None, :]
    at, here = sign * i, i < left

    x += b * x_b + h * x_h + row * x_t
    grad += b * grad_b + h * grad_h + row * grad_t
    if z is not None:
        z += b * z_b + h * z_h + row * z_t
    met = tl.zeros((Q, Q), tl.float32)
    rows_in = (b * length + row) * heads + h + sign * step * heads
    before = tl.zeros((Q,), tl.float32)
    after = tl.zeros((Q,), tl.float32)
    slope = tl.zeros((Q,), tl.float32)
    for _ in range(wide):
        before += tl.load(seen + rows_in, mask=step < left, other=0.0)
        after += tl.load(given + rows_in, mask=step < left, other=0.0)
        slope += tl.load(owed + rows_in, mask=step < left, other=0.0)
        seen += batch * length * heads
        given += batch * length * heads
        owed += batch * length * heads
    for first in range(0, P, WIDTH):
        p = first + tl.arange(0, WIDTH)
        inside = here & (p < P)[None, :]
        gy = gated(grad, z, at, grad_t, z_t, p[None, :], inside)
        now = tl.load(x + (at * x_t + p[None, :]), mask=inside, other=0.0).to(tl.float32)
        met = tl.dot(gy, tl.trans(now), met, input_precision=PRECISION)
    met *= size[None, :] * between(log, Q)
    place = i * Q + j
    tl.store(pairs + of_chunk * Q * Q + place, met)

    # Of the pairs of steps j < i, what the gradient owes to their decay; a decay lies between the pairs around it.
    met *= tl.load(products + ((b * chunks + chunk) * groups + g) * Q * Q + place)
    around = tl.dot(tl.where(i <= j, 1.0, 0.0), tl.where(i > j, met, 0.0), input_precision=PRECISION)
    dlog = tl.sum(tl.where(j < i, around + after[None, :], 0.0), 1)
    dlog += tl.sum(tl.where(j >= i, before[None, :], 0.0), 1)
    across = tl.zeros((16 * Q,), tl.float32)
    for start in range(0, P * N, 16 * Q):
        index = start + tl.arange(0, 16 * Q)
        state = tl.load(states + of_chunk * P * N + index, mask=index < P * N, other=0.0)
        across += state * tl.load(adjoints + of_chunk * P * N + index, mask=index < P * N, other=0.0)
    dlog += tl.exp2(tl.sum(log, 0)) * tl.sum(across, 0)
    slope += tl.load(A + h) * dlog
    if SOFTPLUS:
        slope *= sigmoid(raw)
    slope = tl.where(step < left, slope, 0.0)
    tl.store(ddt + (b * length + row) * heads + h + sign * step * heads, slope, mask=step < left)
    tl.store(dA + of_chunk, tl.sum(size * dlog, 0))
    if bias is not None:
        tl.store(dbias + of_chunk, tl.sum(slope, 0))


@triton.jit(do_not_specialize=["length", "heads", "per_group", "chunks", "deep", "parts", "repeats"])
def row_gradients(
    x,
    z,
    dt,
    rows,
    A,
    bias,
    states,
    pairs,
    drows,
    x_b,
    x_t,
    x_h,
    z_b,
    z_t,
    z_h,
    rows_b,
    rows_t,
    rows_g,
    length,
    heads,
    per_group,
    chunks,
    P,
    N,
    deep,
    parts,
    repeats,
    Q: tl.constexpr,
    WIDTH: tl.constexpr,
    STATES: tl.constexpr,
    DIRECTION: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    OF_B: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Parts (parts, B, L, G, N) of the gradient of C, or of B, from ``repeats`` heads of a group in one chunk.

    Of C: x is the output's gradient, ``rows`` is B, ``states`` are those that enter the chunks. ``OF_B``: x is the
    input, ``z`` is None, ``rows`` is C, ``states`` are the adjoints of those that leave.
    """
    program = tl.program_id(0)
    groups = heads // per_group
    n = program % deep * STATES + tl.arange(0, STATES)
    part = (program // deep) % parts
    g = (program // deep // parts) % groups
    chunk = (program // deep // parts // groups) % chunks
    b = (program // deep // parts // groups // chunks).to(tl.int64)
    batch = tl.num_programs(0) // deep // parts // groups // chunks
    row, sign = first_row(length, b * 0, DIRECTION)
    row += sign * chunk * Q
    left = length - chunk * Q
    step = tl.arange(0, Q)
    at = (sign * step)[:, None]
    here = (step < left)[:, None]
    dt += (b * length + row) * heads
    x += b * x_b + row * x_t
    if z is not None:
        z += b * z_b + row * z_t
    of_chunk = (b * chunks + chunk) * heads

    total = tl.zeros((Q, STATES), tl.float32)
    for repeat in range(repeats):
        # A part may have fewer heads than others; a head too many adds nothing.
        inner = part * repeats + repeat
        h = g * per_group + tl.minimum(inner, per_group - 1)
        last = tl.where(inner < per_group, P, 0)
        _, size, log = decays(dt, A, bias, h, left, sign, heads, Q, SOFTPLUS)
        if OF_B:
            weight = size * to_end(dt, A, bias, h, left, sign, heads, Q, SOFTPLUS)
        else:
            weight = tl.exp2(tl.cumsum(log, 0))
        for first in range(0, P, WIDTH):
            p = first + tl.arange(0, WIDTH)
            inside = here & (p < last)[None, :]
            now = gated(x + h * x_h, z + h * z_h if z is not None else None, at, x_t, z_t, p[None, :], inside)
            fits = (p < last)[:, None] & (n < N)[None, :]
            state = tl.load(states + (of_chunk + h) * P * N + (p[:, None] * N + n[None, :]), mask=fits, other=0.0)
            total = tl.dot(now * weight[:, None], state, total, input_precision=PRECISION)
    met = tl.zeros((Q, Q), tl.float32)
    if OF_B:
        place = step[None, :] * Q + step[:, None]
    else:
        place = step[:, None] * Q + step[None, :]
    for repeat in range(repeats):
        inner = part * repeats + repeat
        used = (step < tl.where(inner < per_group, Q, 0))[None, :]
        met += tl.load(pairs + (of_chunk + g * per_group + inner) * Q * Q + place, mask=used, other=0.0)
    columns = here & (n < N)[None, :]
    rows += b * rows_b + g * rows_g + row * rows_t
    other = tl.load(rows + (at * rows_t + n[None, :]), mask=columns, other=0.0).to(tl.float32)
    total = tl.dot(met, other, total, input_precision=PRECISION)
    drows += (((part * batch + b) * length + row) * groups + g) * N
    tl.store(drows + (at * groups * N + n[None, :]), total, mask=columns)
