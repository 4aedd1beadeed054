"""Triton kernels of the selective scan, backward: the gradients of all tensors, without atomics.

Three steps. ``adjoint`` summarises, for each chunk of time, the adjoint recurrence that runs against time; ``compose``
(of the forward file) turns these summaries into the adjoint that enters each chunk from behind. Then ``gradients``
works on all chunks at once: a program owns the steps of a chunk for a few channels, recomputes the states from the one
saved at the start of the chunk, runs the adjoint from the other end, and goes through the states one by one. Time lies
along the lanes of a warp here, ``STEPS / LANES`` consecutive steps in each, so that sums over channels (dB, dC) need
few exchanges: they are taken over the program's channels and written, and ``sum_rows`` (of the file of rows) adds up
the programs' parts in a fixed order.

What limits ``gradients`` is instruction issue: about 48 instructions a channel, state and step, a third of them for
the two scans across lanes.

Source: formulas as in the backward pass of mamba-ssm (Gu and Dao 2023, appendix D). Deviation: no atomics, hence the
same bits in every run.
"""

# ruff: noqa: RUF005 - kernels cannot unpack tuples

from __future__ import annotations

import triton
import triton.language as tl

from custom_networks.ops._triton_math import LN_2, LOG2_E, first_row, scattered, sigmoid, step_size


@triton.jit(do_not_specialize=["batch", "length", "blocks", "chunks", "per_group"])
def adjoint(
    grad,
    delta,
    z,
    C,
    A,
    bias,
    adjoints,
    sums,
    grad_k,
    grad_b,
    grad_t,
    delta_k,
    delta_b,
    delta_t,
    z_k,
    z_b,
    z_t,
    C_k,
    C_b,
    C_t,
    C_g,
    batch,
    length,
    channels,
    blocks,
    chunks,
    per_group,
    N: tl.constexpr,
    PADDED_N: tl.constexpr,
    CHANNELS: tl.constexpr,
    STEPS: tl.constexpr,
    ALIGN: tl.constexpr,
    DIRECTION: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    HAS_Z: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    """What a chunk hands to the one before it if nothing comes from behind: ``m[t] = a[t] (m[t + 1] + C[t] gy[t])``.

    Shapes and layout as in the forward kernel ``scan``; adjoints (K, B, chunks, D, N), sums (K, B, chunks, D).
    """
    program = tl.program_id(0)
    block = program % blocks
    chunk = (program // blocks) % chunks
    kb = (program // blocks // chunks).to(tl.int64)
    k, b = kb // batch, kb % batch
    per_block = tl.cdiv(per_group, CHANNELS)
    group = block // per_block
    within = (block % per_block) * CHANNELS + tl.arange(0, CHANNELS)
    channel = group * per_group + within
    inside = within < per_group
    n = tl.arange(0, PADDED_N)
    in_matrix = inside[None, :] & (n[:, None] < N)

    matrix = channel[None, :] * N + scattered(n)[:, None]
    rate = tl.load(A + k * channels * N + matrix, mask=in_matrix, other=0.0) * LOG2_E
    shift = tl.load(bias + k * channels + channel, mask=inside, other=0.0) if HAS_BIAS else 0.0
    row, sign = first_row(length, k, DIRECTION)
    grad += k * grad_k + b * grad_b
    delta += k * delta_k + b * delta_b
    if HAS_Z:
        z += k * z_k + b * z_b
    from_C = k * C_k + b * C_b + group * C_g

    m = tl.zeros((PADDED_N, CHANNELS), tl.float32)
    total = tl.zeros((CHANNELS,), tl.float32)
    begin = chunk * STEPS
    count = tl.minimum(STEPS, length - begin)
    at = row + sign * (begin + count - 1)
    next_g = tl.load(grad + at * grad_t + channel, mask=inside, other=0.0)
    next_delta = tl.load(delta + at * delta_t + channel, mask=inside, other=0.0)
    if HAS_Z:
        next_z = tl.load(z + at * z_t + channel, mask=inside, other=0.0)
    next_C = tl.load(C + tl.multiple_of(from_C + at * C_t, ALIGN) + n, mask=n < N, other=0.0)
    for s in range(count):
        gy, raw, C_now = next_g.to(tl.float32), next_delta.to(tl.float32) + shift, next_C.to(tl.float32)
        at = row + sign * (begin + tl.maximum(count - 2 - s, 0))
        next_g = tl.load(grad + at * grad_t + channel, mask=inside, other=0.0)
        next_delta = tl.load(delta + at * delta_t + channel, mask=inside, other=0.0)
        next_C = tl.load(C + tl.multiple_of(from_C + at * C_t, ALIGN) + n, mask=n < N, other=0.0)
        if HAS_Z:
            z_now = next_z.to(tl.float32)
            next_z = tl.load(z + at * z_t + channel, mask=inside, other=0.0)
            gy *= z_now * sigmoid(z_now)
        size = step_size(raw, SOFTPLUS)
        total += size
        m = tl.exp2(size[None, :] * rate) * (m + gy[None, :] * C_now[:, None])
    tl.store(adjoints + (kb * chunks + chunk) * N * channels + matrix, m, mask=in_matrix)
    tl.store(sums + (kb * chunks + chunk) * channels + channel, total, mask=inside)


@triton.jit
def _from(x, lane, HOP: tl.constexpr, LANES: tl.constexpr, BACK: tl.constexpr):
    """What the lane ``HOP`` before (behind, if ``BACK``) holds; at the end, what the lane at the end holds."""
    if BACK:
        source = tl.minimum(lane + HOP, LANES - 1)
    else:
        source = tl.maximum(lane - HOP, 0)
    return tl.gather(x, tl.broadcast_to(source, x.shape), 2)


@triton.jit
def _join(decay, gain, lane, HOP: tl.constexpr, LANES: tl.constexpr, BACK: tl.constexpr):
    """One round of a scan across lanes by doubling."""
    if HOP < LANES:
        if BACK:
            inside = lane < LANES - HOP
        else:
            inside = lane >= HOP
        gain += tl.where(inside, decay, 0.0) * _from(gain, lane, HOP, LANES, BACK)
        decay *= tl.where(inside, _from(decay, lane, HOP, LANES, BACK), 1.0)
    return decay, gain


@triton.jit
def _entering(decay, gain, carry, lane, LANES: tl.constexpr, BACK: tl.constexpr):
    """The value that enters each lane, if a lane turns ``h`` into ``decay h + gain`` and ``carry`` enters the first.

    Written with gathers: Triton's own reverse scan would turn the whole tensor around before and after.
    """
    decay, gain = _join(decay, gain, lane, 1, LANES, BACK)
    decay, gain = _join(decay, gain, lane, 2, LANES, BACK)
    decay, gain = _join(decay, gain, lane, 4, LANES, BACK)
    decay, gain = _join(decay, gain, lane, 8, LANES, BACK)
    decay, gain = _join(decay, gain, lane, 16, LANES, BACK)
    left = decay * carry + gain
    return tl.where(lane == (LANES - 1 if BACK else 0), carry, _from(left, lane, 1, LANES, BACK))


@triton.jit
def _four(x):
    """Four tensors as one with two more dimensions, in order."""
    return tl.join(tl.join(x[0], x[2]), tl.join(x[1], x[3]))


@triton.jit(do_not_specialize=["batch", "length", "parts", "chunks", "per_group", "first"])
def gradients(
    grad,
    u,
    delta,
    z,
    B_rows,
    C_rows,
    A,
    D,
    bias,
    states,
    adjoints,
    du,
    ddelta,
    dz,
    dA,
    dBC,
    dD,
    dbias,
    grad_k,
    grad_b,
    grad_t,
    u_k,
    u_b,
    u_t,
    delta_k,
    delta_b,
    delta_t,
    z_k,
    z_b,
    z_t,
    batch,
    length,
    channels,
    parts,
    chunks,
    per_group,
    groups,
    first,
    N: tl.constexpr,
    GROUP: tl.constexpr,
    VECTOR: tl.constexpr,
    LANES: tl.constexpr,
    DIRECTION: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    HAS_D: tl.constexpr,
    HAS_Z: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ADD: tl.constexpr,
):
    """Gradients of one chunk of ``4 LANES`` steps for a block of ``GROUP VECTOR`` channels.

    A launch covers ``parts`` blocks of each group, from the block ``first`` on; with ``ADD`` it adds its dBC to those
    that an earlier launch has written.

    grad, u, delta, z (K, B, L, D) by strides; du, ddelta, dz of that shape, dense; B_rows, C_rows (K, B, G, N, chunks,
    4, LANES): step ``4 lane + i`` of a chunk at ``[i, lane]``; states, adjoints, dA (K, B, chunks, D, N); dD, dbias
    (K, B, chunks, D); dBC (parts, K, B, G, N, L padded to whole chunks, 2).
    """
    program = tl.program_id(0)
    part = program % parts
    group = (program // parts) % groups
    chunk = (program // parts // groups) % chunks
    kb = (program // parts // groups // chunks).to(tl.int64)
    k, b = kb // batch, kb % batch
    lane = tl.arange(0, LANES)[None, None, :]
    spread = tl.arange(0, GROUP)[None, :, None] * VECTOR + tl.arange(0, VECTOR)[:, None, None]
    flat = tl.arange(0, GROUP)[None, :] * VECTOR + tl.arange(0, VECTOR)[:, None]
    row, sign = first_row(length, k, DIRECTION)
    begin = chunk * 4 * LANES
    # Uniform bases, and offsets of lanes in 32 bits that all steps of a lane share, leave the registers to the states.
    row += sign * begin
    grad += k * grad_k + b * grad_b + row * grad_t
    u += k * u_k + b * u_b + row * u_t
    delta += k * delta_k + b * delta_b + row * delta_t
    if HAS_Z:
        z += k * z_k + b * z_b + row * z_t
        dz += (kb * length + row) * channels
    du += (kb * length + row) * channels
    ddelta += (kb * length + row) * channels
    left = length - begin
    grad_t *= sign
    u_t *= sign
    delta_t *= sign
    if HAS_Z:
        z_t *= sign
    out_t = channels * sign
    of_chunk = (kb * chunks + chunk) * channels
    of_rows = (kb * groups + group) * N * chunks + chunk
    of_part = (part * (tl.num_programs(0) // parts // groups // chunks) + kb) * groups + group
    zero = tl.zeros((VECTOR, GROUP, LANES), tl.float32)

    start = (first + part) * GROUP * VECTOR
    inside = spread < per_group - start
    start += group * per_group
    shift = tl.load(bias + (k * channels + start) + spread, mask=inside, other=0.0) if HAS_BIAS else 0.0
    size, gain, gy, y, S, E = (), (), (), (), (), ()
    for i in tl.static_range(4):
        step = lane * 4 + i
        here = inside & (step < left)
        raw = (
            tl.load(delta + (start + i * delta_t) + (4 * lane * delta_t + spread), mask=here, other=0.0).to(tl.float32)
            + shift
        )
        g = tl.load(grad + (start + i * grad_t) + (4 * lane * grad_t + spread), mask=here, other=0.0).to(tl.float32)
        if HAS_Z:
            gate = tl.load(z + (start + i * z_t) + (4 * lane * z_t + spread), mask=here, other=0.0).to(tl.float32)
            g *= gate * sigmoid(gate)
        now = tl.where(here, step_size(raw, SOFTPLUS), 0.0)
        size = size + (now,)
        gain = gain + (
            now * tl.load(u + (start + i * u_t) + (4 * lane * u_t + spread), mask=here, other=0.0).to(tl.float32),
        )
        gy = gy + (g,)
        y, S, E = y + (zero,), S + (zero,), E + (zero,)
    after = tl.where(lane == LANES - 1, 0.0, _from(size[0], lane, 1, LANES, True))

    for n in range(N):
        rate = tl.load(A + (k * channels + start) * N + (spread * N + n), mask=inside, other=0.0) * LOG2_E
        enters = tl.load(states + (of_chunk + start) * N + (spread * N + n), mask=inside, other=0.0)
        returns = tl.load(adjoints + (of_chunk + start) * N + (spread * N + n), mask=inside, other=0.0)
        of_row = (of_rows + n * chunks) * 4 * LANES
        B, C, a = (), (), ()
        decay, h = zero + 1.0, zero
        for i in tl.static_range(4):
            B = B + (tl.load(B_rows + of_row + i * LANES + lane),)
            C = C + (tl.load(C_rows + of_row + i * LANES + lane),)
            a = a + (tl.exp2(size[i] * rate),)
            decay *= a[i]
            h = a[i] * h + gain[i] * B[i]
        h = _entering(decay, h, enters, lane, LANES, False)
        # The adjoint of a step meets the decay of the step behind it, which may belong to the next lane.
        link = tl.exp2(after * rate)
        decay, adj = link * a[1] * a[2] * a[3], gy[3] * C[3]
        for i in tl.static_range(3):
            adj = gy[2 - i] * C[2 - i] + a[3 - i] * adj
        adj = _entering(decay, adj, returns, lane, LANES, True)

        decayed, y_, dC = (), (), ()
        for i in tl.static_range(4):
            decayed = decayed + (a[i] * h,)
            h = decayed[i] + gain[i] * B[i]
            y_ = y_ + (y[i] + C[i] * h,)
            dC = dC + (tl.sum(h * gy[i], 0),)
        S_, E_, dB = (), (), ()
        exponents = zero
        a = a + (link,)
        for j in tl.static_range(4):
            adj = gy[3 - j] * C[3 - j] + a[4 - j] * adj
            # The gradient of the exponent.
            e = adj * decayed[3 - j]
            exponents += size[3 - j] * e
            S_ = (S[3 - j] + adj * B[3 - j],) + S_
            E_ = (E[3 - j] + rate * e,) + E_
            dB = (tl.sum(adj * gain[3 - j], 0),) + dB
        y, S, E = y_, S_, E_
        fits = flat < (group + 1) * per_group - start
        tl.store(dA + (of_chunk + start) * N + (flat * N + n), tl.sum(exponents, 2), mask=fits)
        both = tl.reshape(tl.sum(tl.join(_four(dB), _four(dC)), 0), (LANES, 8))
        place = ((of_part * N + n) * chunks + chunk) * LANES * 8
        place += tl.arange(0, LANES)[:, None] * 8 + tl.arange(0, 8)[None, :]
        if ADD:
            both += tl.load(dBC + place)
        tl.store(dBC + place, both)

    weight = tl.load(D + (k * channels + start) + spread, mask=inside, other=0.0) if HAS_D else 0.0
    sum_D, sum_bias = zero, zero
    for i in tl.static_range(4):
        step = lane * 4 + i
        here = inside & (step < left)
        # Read again: kept from above, these would cost the registers that let several programs share a processor.
        raw = (
            tl.load(delta + (start + i * delta_t) + (4 * lane * delta_t + spread), mask=here, other=0.0).to(tl.float32)
            + shift
        )
        u_now = tl.load(u + (start + i * u_t) + (4 * lane * u_t + spread), mask=here, other=0.0).to(tl.float32)
        if HAS_Z:
            gate = tl.load(z + (start + i * z_t) + (4 * lane * z_t + spread), mask=here, other=0.0).to(tl.float32)
            g = tl.load(grad + (start + i * grad_t) + (4 * lane * grad_t + spread), mask=here, other=0.0).to(tl.float32)
            open_ = sigmoid(gate)
            slope = g * (y[i] + weight * u_now) * open_ * (1.0 + gate * (1.0 - open_))
            tl.store(dz + (start + i * out_t) + (4 * lane * out_t + spread), slope.to(dz.dtype.element_ty), mask=here)
        tl.store(
            du + (start + i * out_t) + (4 * lane * out_t + spread),
            (size[i] * S[i] + weight * gy[i]).to(du.dtype.element_ty),
            mask=here,
        )
        slope = u_now * S[i] + LN_2 * E[i]
        if SOFTPLUS:
            slope *= sigmoid(raw)
        tl.store(
            ddelta + (start + i * out_t) + (4 * lane * out_t + spread), slope.to(ddelta.dtype.element_ty), mask=here
        )
        sum_D += gy[i] * u_now
        sum_bias += tl.where(here, slope, 0.0)
    fits = flat < (group + 1) * per_group - start
    if HAS_D:
        tl.store(dD + (of_chunk + start) + flat, tl.sum(sum_D, 2), mask=fits)
    if HAS_BIAS:
        tl.store(dbias + (of_chunk + start) + flat, tl.sum(sum_bias, 2), mask=fits)
