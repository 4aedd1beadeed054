"""Triton kernels that bring B and C of the selective scan into the order in which the backward pass reads them."""

from __future__ import annotations

import triton
import triton.language as tl

from custom_networks.ops._triton_math import first_row


@triton.jit(do_not_specialize=["batch", "length", "groups", "chunks"])
def spread_rows(
    rows,
    spread,
    rows_k,
    rows_b,
    rows_t,
    rows_g,
    batch,
    length,
    groups,
    chunks,
    N: tl.constexpr,
    PADDED_N: tl.constexpr,
    EACH: tl.constexpr,
    LANES: tl.constexpr,
    DIRECTION: tl.constexpr,
):
    """One chunk of rows (K, B, L, G, N), by strides, as float32 (K, B, G, N, chunks, EACH, LANES).

    Step ``EACH lane + i``, counted in the order of the scan, goes to ``[i, lane]``; zeros behind the end.
    """
    program = tl.program_id(0)
    chunk = program % chunks
    group = (program // chunks) % groups
    kb = (program // chunks // groups).to(tl.int64)
    k, b = kb // batch, kb % batch
    place = tl.arange(0, EACH * LANES)
    step = chunk * EACH * LANES + (place % LANES) * EACH + place // LANES
    n = tl.arange(0, PADDED_N)
    row, sign = first_row(length, k, DIRECTION)
    at = (row + sign * step) * rows_t
    rows += k * rows_k + b * rows_b + group * rows_g
    inside = (step[:, None] < length) & (n[None, :] < N)
    x = tl.load(rows + at[:, None] + n[None, :], mask=inside, other=0.0).to(tl.float32)
    into = (((kb * groups + group) * N + n[None, :]) * chunks + chunk) * EACH * LANES + place[:, None]
    tl.store(spread + into, x, mask=n[None, :] < N)


@triton.jit(do_not_specialize=["batch", "length", "groups", "chunks", "count"])
def sum_rows(
    parts,
    dB,
    dC,
    batch,
    length,
    groups,
    chunks,
    count,
    stride,
    N: tl.constexpr,
    PADDED_N: tl.constexpr,
    STEPS: tl.constexpr,
    DIRECTION: tl.constexpr,
):
    """Sums the ``count`` parts (count, K, B, G, N, chunks * STEPS, 2) in order into dB, dC (K, B, L, G, N), dense.

    ``stride`` is the distance of two parts.
    """
    program = tl.program_id(0)
    chunk = program % chunks
    group = (program // chunks) % groups
    kb = (program // chunks // groups).to(tl.int64)
    k = kb // batch
    step = chunk * STEPS + tl.arange(0, STEPS)
    n = tl.arange(0, PADDED_N)
    both = tl.arange(0, 2)[None, None, :]
    fits = n[:, None, None] < N
    parts += ((kb * groups + group) * N + n[:, None, None]) * chunks * STEPS * 2 + step[None, :, None] * 2 + both
    total = tl.zeros((PADDED_N, STEPS, 2), tl.float32)
    for _ in range(count):
        total += tl.load(parts, mask=fits, other=0.0)
        parts += stride
    of_B, of_C = tl.split(total)
    row, sign = first_row(length, k, DIRECTION)
    at = ((kb * length + row + sign * step) * groups + group) * N
    inside = (step[None, :] < length) & (n[:, None] < N)
    tl.store(dB + at[None, :] + n[:, None], of_B.to(dB.dtype.element_ty), mask=inside)
    tl.store(dC + at[None, :] + n[:, None], of_C.to(dC.dtype.element_ty), mask=inside)
