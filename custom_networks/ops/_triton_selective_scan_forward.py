"""Triton kernels of the selective scan, forward: sequential in time, blocked over channels.

A program owns 32 channels, one a lane, with the N states of a channel in the registers of its lane: the sum over states
needs no exchange between lanes, and rows of u, delta and z are read as they lie in memory, one coalesced row a step,
a step ahead. What limits it is instruction issue, 13 (float32) to 15 (bfloat16) a channel, state and step by the
compiler's output, of which the exponential alone would take the time of 8; memory is far behind.

With few channels there are too few programs to fill a GPU. Then time is cut into chunks: ``scan`` summarises every
chunk from a state of zeros, ``compose`` turns summaries into the states that enter the chunks, ``scan`` again computes
the outputs, all chunks at once, for a second exponential.

Source: Mamba, Gu and Dao 2023, section 3.3.2 (recomputation, states in fast memory); the composition of chunks is
theirs too. Deviation: lanes are channels, not time, so nothing is transposed and no scan across lanes is needed.
"""

# ruff: noqa: RUF005 - kernels cannot unpack tuples

from __future__ import annotations

import triton
import triton.language as tl

from custom_networks.ops._triton_math import LOG2_E, first_row, scattered, sigmoid, step_size


@triton.jit(do_not_specialize=["batch", "length", "blocks", "pieces", "chunks", "per_group"])
def scan(
    u,
    delta,
    z,
    B,
    C,
    A,
    D,
    bias,
    initial,
    states,
    sums,
    out,
    last,
    u_k,
    u_b,
    u_t,
    delta_k,
    delta_b,
    delta_t,
    z_k,
    z_b,
    z_t,
    B_k,
    B_b,
    B_t,
    B_g,
    C_k,
    C_b,
    C_t,
    C_g,
    batch,
    length,
    channels,
    blocks,
    pieces,
    chunks,
    per_group,
    N: tl.constexpr,
    PADDED_N: tl.constexpr,
    CHANNELS: tl.constexpr,
    STEPS: tl.constexpr,
    ALIGN: tl.constexpr,
    DIRECTION: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    HAS_D: tl.constexpr,
    HAS_Z: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_INITIAL: tl.constexpr,
    SUMMARISE: tl.constexpr,
    SAVE: tl.constexpr,
):
    """One piece of time of one block of channels.

    u, delta, z (K, B, L, D) and B, C (K, B, L, G, N) by strides, ``out`` (K, B, L, D) and all others dense and float32:
    A (K, D, N), D and bias (K, D), initial and last (K, B, D, N), states (K, B, chunks, D, N), sums (K, B, chunks, D).

    There are as many ``pieces`` as chunks of ``STEPS`` steps, or one that covers them all. A piece starts from its
    entry of ``states`` if there are several, else from ``initial`` or zeros. ``SUMMARISE``: starts from zeros, writes
    the state after the piece to ``states`` and the sum of its step sizes to ``sums``, and no outputs. ``SAVE``: writes
    the state that enters each chunk to ``states``. A single piece writes ``last``.
    """
    program = tl.program_id(0)
    block = program % blocks
    piece = (program // blocks) % pieces
    kb = (program // blocks // pieces).to(tl.int64)
    k, b = kb // batch, kb % batch
    per_block = tl.cdiv(per_group, CHANNELS)
    group = block // per_block
    within = (block % per_block) * CHANNELS + tl.arange(0, CHANNELS)
    channel = group * per_group + within
    inside = within < per_group
    n = tl.arange(0, PADDED_N)
    matrix = channel[None, :] * N + scattered(n)[:, None]
    in_matrix = inside[None, :] & (n[:, None] < N)

    rate = tl.load(A + k * channels * N + matrix, mask=in_matrix, other=0.0) * LOG2_E
    weight = tl.load(D + k * channels + channel, mask=inside, other=0.0) if HAS_D else 0.0
    shift = tl.load(bias + k * channels + channel, mask=inside, other=0.0) if HAS_BIAS else 0.0
    row, sign = first_row(length, k, DIRECTION)
    u += k * u_k + b * u_b + group * per_group
    delta += k * delta_k + b * delta_b + group * per_group
    if HAS_Z:
        z += k * z_k + b * z_b + group * per_group
    from_B = k * B_k + b * B_b + group * B_g
    from_C = k * C_k + b * C_b + group * C_g
    out += kb * length * channels + group * per_group

    if SUMMARISE:
        h = tl.zeros((PADDED_N, CHANNELS), tl.float32)
        total = tl.zeros((CHANNELS,), tl.float32)
    elif pieces > 1:
        h = tl.load(states + (kb * chunks + piece) * N * channels + matrix, mask=in_matrix, other=0.0)
    elif HAS_INITIAL:
        h = tl.load(initial + kb * channels * N + matrix, mask=in_matrix, other=0.0)
    else:
        h = tl.zeros((PADDED_N, CHANNELS), tl.float32)

    for chunk in range(piece, chunks, pieces):
        if SAVE:
            tl.store(states + (kb * chunks + chunk) * N * channels + matrix, h, mask=in_matrix)
        begin = chunk * STEPS
        count = tl.minimum(STEPS, length - begin)
        at = row + sign * begin
        next_u = tl.load((u + at * u_t) + within, mask=inside, other=0.0)
        next_delta = tl.load((delta + at * delta_t) + within, mask=inside, other=0.0)
        if HAS_Z and not SUMMARISE:
            next_z = tl.load((z + at * z_t) + within, mask=inside, other=0.0)
        next_B = tl.load(B + tl.multiple_of(from_B + at * B_t, ALIGN) + n, mask=n < N, other=0.0)
        if not SUMMARISE:
            next_C = tl.load(C + tl.multiple_of(from_C + at * C_t, ALIGN) + n, mask=n < N, other=0.0)
        for s in range(count):
            u_now, raw, B_now = next_u.to(tl.float32), next_delta.to(tl.float32) + shift, next_B.to(tl.float32)
            here = at
            # The next row is on its way while this one is computed; the last step reads its own row again.
            at = row + sign * (begin + tl.minimum(s + 1, count - 1))
            next_u = tl.load((u + at * u_t) + within, mask=inside, other=0.0)
            next_delta = tl.load((delta + at * delta_t) + within, mask=inside, other=0.0)
            next_B = tl.load(B + tl.multiple_of(from_B + at * B_t, ALIGN) + n, mask=n < N, other=0.0)
            size = step_size(raw, SOFTPLUS)
            h = tl.exp2(size[None, :] * rate) * h + (size * u_now)[None, :] * B_now[:, None]
            if SUMMARISE:
                total += size
            else:
                C_now = next_C.to(tl.float32)
                next_C = tl.load(C + tl.multiple_of(from_C + at * C_t, ALIGN) + n, mask=n < N, other=0.0)
                y = tl.sum(h * C_now[:, None], 0)
                if HAS_D:
                    y += weight * u_now
                if HAS_Z:
                    z_now = next_z.to(tl.float32)
                    next_z = tl.load((z + at * z_t) + within, mask=inside, other=0.0)
                    y *= z_now * sigmoid(z_now)
                tl.store((out + here * channels) + within, y.to(out.dtype.element_ty), mask=inside)

    if SUMMARISE:
        tl.store(states + (kb * chunks + piece) * N * channels + matrix, h, mask=in_matrix)
        tl.store(sums + (kb * chunks + piece) * channels + channel, total, mask=inside)
    elif pieces == 1:
        tl.store(last + kb * channels * N + matrix, h, mask=in_matrix)


@triton.jit(do_not_specialize=["batch", "channels", "chunks"])
def compose(
    states,
    sums,
    A,
    initial,
    last,
    batch,
    channels,
    chunks,
    N,
    HAS_INITIAL: tl.constexpr,
    BACK: tl.constexpr,
    SIZE: tl.constexpr,
    AHEAD: tl.constexpr,
):
    """Summaries of chunks, in place, to the states that enter them: ``h = exp(A sum) h + summary``, chunk after chunk.

    Shapes as in :func:`scan`. ``BACK`` runs from the last chunk to the first (for adjoints). ``AHEAD`` chunks are read
    together, for the time of a step is that of a read otherwise.
    """
    kb = tl.program_id(1).to(tl.int64)
    k = kb // batch
    index = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    channel = index // N
    inside = index < N * channels
    rate = tl.load(A + k * channels * N + index, mask=inside, other=0.0) * LOG2_E
    if HAS_INITIAL:
        h = tl.load(initial + kb * channels * N + index, mask=inside, other=0.0)
    else:
        h = tl.zeros((SIZE,), tl.float32)
    for start in range(0, chunks, AHEAD):
        gains = ()
        sizes = ()
        for i in tl.static_range(AHEAD):
            chunk = kb * chunks + (chunks - 1 - start - i if BACK else start + i)
            here = index < tl.where(chunks - start > i, N * channels, 0)
            gains = gains + (tl.load(states + chunk * N * channels + index, mask=here, other=0.0),)
            sizes = sizes + (tl.load(sums + chunk * channels + channel, mask=here, other=0.0),)
        for i in tl.static_range(AHEAD):
            chunk = kb * chunks + (chunks - 1 - start - i if BACK else start + i)
            here = index < tl.where(chunks - start > i, N * channels, 0)
            tl.store(states + chunk * N * channels + index, h, mask=here)
            h = tl.exp2(rate * sizes[i]) * h + gains[i]
    tl.store(last + kb * channels * N + index, h, mask=inside)
