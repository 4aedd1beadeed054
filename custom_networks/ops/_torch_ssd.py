"""SSD scan in plain PyTorch: chunks as matrix products, with a hand-written backward pass.

Within a chunk, steps act on each other through a matrix of decays between them, the products C B^T being formed once
a group; chunks act on each other through the state. Sums of log decays are float64 so that a huge step does not blur
the small ones after it. Forward keeps the state at the start of each slab of chunks; backward restarts there.

Letters: M chunks a slab, Q steps a chunk, K heads a group. Values of the steps are (B, M, Q, G, K, P), B and C
(B, M, G, Q, N), states (B, M, G, N, K P).

Source: Mamba-2, Dao and Gu 2024, section 6.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from custom_networks.ops._chunks import Slab, slabs
from custom_networks.ops._layout import state_dtype


def slab_shape(x: Tensor, states: int, chunk_size: int) -> tuple[int, int]:
    """Chunks side by side and steps of a chunk for inputs of this size."""
    on_cpu = x.device.type == "cpu"
    steps = min(chunk_size, (64 if states >= 128 else 32) if on_cpu else 256)
    elements = max(1, x.shape[0]) * x.shape[2] * steps * max(steps, x.shape[3])
    return max(1, (1 << (20 if on_cpu else 26)) // elements), steps


def states_shape(x: Tensor, B: Tensor, chunk_size: int) -> tuple[int, ...]:
    """Shape of the states kept for the backward pass: one a slab."""
    groups, states = B.shape[2:]
    chunks, steps = slab_shape(x, states, chunk_size)
    batch, length, heads, width = x.shape
    return -(-length // (chunks * steps)), batch, groups, states, heads // groups * width


class _Chunks:
    """One slab of the scan: inputs in the precision of the state, decays, and what passes from chunk to chunk."""

    def __init__(self, slab: Slab, x: Tensor, step_size: Tensor, A: Tensor, B: Tensor, C: Tensor, reverse: bool):
        dtype, groups = state_dtype(x.dtype), B.shape[2]
        self.slab, self.reverse = slab, reverse
        self.dt = slab.split(step_size).unflatten(-1, (groups, -1))
        self.x = slab.split(slab.rows(x).to(dtype)).unflatten(-2, (groups, -1))
        self.dt_x = self.dt[..., None] * self.x
        self.B, self.C = (slab.split(slab.rows(v).to(dtype)).transpose(2, 3) for v in (B, C))

        total = self.accumulate(self.dt.double() * A.double().unflatten(0, (groups, -1)), reverse)
        whole = total[:, :, :1] if reverse else total[:, :, -1:]
        self.from_start, self.to_end = (v.exp().to(dtype)[..., None] for v in (total, whole - total))
        self.whole = whole.exp().to(dtype).movedim(2, 3).repeat_interleave(x.shape[-1], dim=-1)
        total = total.movedim(2, -1)
        later = torch.ones(slab.steps, slab.steps, dtype=torch.bool, device=x.device).triu(1)
        self.later = later.mT if reverse else later
        between = (total[..., :, None] - total[..., None, :]).to(dtype)
        self.decay = between.masked_fill_(self.later, -torch.inf).exp_()
        self.products = torch.matmul(self.C, self.B.mT).unsqueeze(3)
        self.mixing = self.products * self.decay

    @staticmethod
    def accumulate(x: Tensor, last_first: bool) -> Tensor:
        """Inclusive sum over the steps of each chunk."""
        return x.flip(2).cumsum(2).flip(2) if last_first else x.cumsum(2)

    def run(self, state: Tensor) -> Tensor:
        """Output of the steps, from the ``state`` (B, G, N, K P) that enters the slab; ``leaving`` ends each chunk."""
        self.to_state = _by_group(self.to_end * self.dt_x)
        self.leaving = torch.matmul(self.B.mT, self.to_state)
        self.entering = self._pass(self.leaving, state, self.reverse)
        self.y_of_state = self.from_start * self._by_step(torch.matmul(self.C, self.entering))
        return self.y_of_state + torch.matmul(self.mixing, self.dt_x.movedim(2, 4)).movedim(4, 2)

    def run_back(self, grad: Tensor, carry: Tensor) -> tuple[Tensor, ...]:
        """Gradients of dt_x, B, C, dt A and of the state entering the slab, given that of the state leaving it."""
        from_state = _by_group(self.from_start * grad)
        arriving = torch.matmul(self.C.mT, from_state)
        grad_leaving = self._pass(arriving, carry, not self.reverse)
        grad_heads = grad.movedim(2, 4)
        of_state = self.to_end * self._by_step(torch.matmul(self.B, grad_leaving))
        d_dt_x = of_state + torch.matmul(self.mixing.mT, grad_heads).movedim(4, 2)
        pairs = torch.matmul(grad_heads, self.dt_x.movedim(2, 4).mT).mul_(self.decay)
        shared = pairs.sum(3)
        dB = torch.matmul(shared.mT, self.C) + torch.matmul(self.to_state, grad_leaving.mT)
        dC = torch.matmul(shared, self.B) + torch.matmul(from_state, self.entering.mT)

        # A decay scales what flows past its step: from the state or an earlier step, to the state or this or a later
        # step. Sums over these paths do not cancel, as the difference of output and input gradients would.
        through = self._heads(self.whole * self.entering * grad_leaving).sum((3, 5)).unsqueeze(2)
        out_of_state = (grad * self.y_of_state).sum(-1)
        into_state = (self.dt_x * of_state).sum(-1).double()
        earlier = (self.accumulate(into_state, self.reverse) - into_state).to(grad.dtype)
        onward = self.later.to(grad.dtype).fill_diagonal_(1)
        within = (torch.matmul(onward, pairs.mul_(self.products)) * self.later.mT).sum(-1).movedim(-1, 2)
        d_log = through + self.accumulate(out_of_state, not self.reverse) + earlier + within
        return d_dt_x, dB, dC, d_log, arriving[:, -1 if self.reverse else 0]

    def _heads(self, x: Tensor) -> Tensor:
        """(..., K P) as (..., K, P)."""
        return x.unflatten(-1, (self.x.shape[-2], -1))

    def _by_step(self, x: Tensor) -> Tensor:
        """(B, M, G, Q, K P) as (B, M, Q, G, K, P)."""
        return self._heads(x).movedim(3, 2)

    def _pass(self, gained: Tensor, carry: Tensor, last_first: bool) -> Tensor:
        """What enters each chunk; ``gained`` (in each chunk) becomes, in place, what leaves it."""
        entering = torch.empty_like(gained)
        for m in range(self.slab.chunks)[:: -1 if last_first else 1]:
            entering[:, m] = carry
            carry = gained[:, m].addcmul_(self.whole[:, m], carry)
        return entering


def _by_group(x: Tensor) -> Tensor:
    """(B, M, Q, G, K, P) as (B, M, G, Q, K P)."""
    return x.movedim(3, 2).flatten(-2)


def _skip_weight(D: Tensor, dtype: torch.dtype) -> Tensor:
    """D as (H, 1) or (H, P)."""
    return D.to(dtype).reshape(D.shape[0], -1)


def _raw_step_size(slab: Slab, dt: Tensor, dt_bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    raw = slab.rows(dt).to(dtype)
    return raw if dt_bias is None else raw + dt_bias.to(dtype)


def forward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_states: Tensor | None,
    dt_softplus: bool,
    reverse: bool,
    chunk_size: int,
    save_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output (B, L, H, P), final state (B, H, P, N), and the states entering each slab (empty unless wanted)."""
    dtype, shape = state_dtype(x.dtype), states_shape(x, B, chunk_size)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    kept = torch.empty(shape if save_states else (0,), dtype=dtype, device=x.device)
    if initial_states is None:
        state = torch.zeros(shape[1:], dtype=dtype, device=x.device)
    else:
        state = _from_public(initial_states.to(dtype), B.shape[2])
    for slab in slabs(x.shape[1], *slab_shape(x, B.shape[3], chunk_size), reverse):
        if save_states:
            kept[slab.index] = state
        raw = _raw_step_size(slab, dt, dt_bias, dtype)
        chunks = _Chunks(slab, x, F.softplus(raw) if dt_softplus else raw, A, B, C, reverse)
        y = slab.join(chunks.run(state)).flatten(2, 3)
        state = chunks.leaving[:, 0 if reverse else -1]
        if D is not None:
            y = torch.addcmul(y, _skip_weight(D, dtype), slab.rows(x).to(dtype))
        if z is not None:
            y = y * F.silu(slab.rows(z).to(dtype))
        slab.rows(out).copy_(y)
    return out, _to_public(state, x.shape[2]), kept


def backward(
    grad: Tensor,
    grad_final: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_states: Tensor | None,
    kept: Tensor,
    dt_softplus: bool,
    reverse: bool,
    chunk_size: int,
) -> tuple[Tensor | None, ...]:
    """Gradients of x, dt, A, B, C, D, z, dt_bias and initial_states; None for what is absent."""
    dtype, groups = state_dtype(x.dtype), B.shape[2]
    dx, ddt, dB, dC, dz = (
        None if v is None else torch.empty(v.shape, dtype=v.dtype, device=x.device) for v in (x, dt, B, C, z)
    )
    dA, dbias = (torch.zeros(A.shape, dtype=dtype, device=x.device) for _ in range(2))
    weight = None if D is None else _skip_weight(D, dtype)
    dD = None if D is None else torch.zeros(x.shape[2:], dtype=dtype, device=x.device)
    carry = _from_public(grad_final.to(dtype), groups)

    for slab in slabs(x.shape[1], *slab_shape(x, B.shape[3], chunk_size), not reverse):
        raw = _raw_step_size(slab, dt, dt_bias, dtype)
        chunks = _Chunks(slab, x, F.softplus(raw) if dt_softplus else raw, A, B, C, reverse)
        y = chunks.run(kept[slab.index])
        x_, gy = slab.rows(x).to(dtype), slab.rows(grad).to(dtype)
        if z is not None:
            before = slab.join(y).flatten(2, 3)
            before = before if D is None else torch.addcmul(before, weight, x_)
            z_ = slab.rows(z).to(dtype)
            gate = torch.sigmoid(z_)
            slab.rows(dz).copy_(gy * before * gate * (1 + z_ * (1 - gate)))
            gy = gy * z_ * gate
        grad_y = slab.split(gy).unflatten(-2, (groups, -1))
        d_dt_x, dB_, dC_, d_log, carry = chunks.run_back(grad_y, carry)
        slab.rows(dB).copy_(slab.join(dB_.transpose(2, 3)))
        slab.rows(dC).copy_(slab.join(dC_.transpose(2, 3)))

        dA += (chunks.dt * d_log).sum((0, 1, 2)).flatten()
        d_step = (chunks.x * d_dt_x).sum(-1) + A.to(dtype).unflatten(0, (groups, -1)) * d_log
        d_step = slab.join(d_step).flatten(2)
        if dt_softplus:
            d_step = d_step * torch.sigmoid(raw)
        slab.rows(ddt).copy_(d_step)
        dbias += d_step.sum((0, 1))
        d_x = slab.join(chunks.dt[..., None] * d_dt_x).flatten(2, 3)
        if D is not None:
            d_x = torch.addcmul(d_x, weight, gy)
            dD += (gy * x_).sum((0, 1))
        slab.rows(dx).copy_(d_x)

    if D is not None:
        dD = (dD if D.dim() == 2 else dD.sum(1)).to(D.dtype)
    dbias = None if dt_bias is None else dbias.to(dt_bias.dtype)
    dinitial = None if initial_states is None else _to_public(carry, x.shape[2]).to(initial_states.dtype)
    return dx, ddt, dA.to(A.dtype), dB, dC, dD, dz, dbias, dinitial


def _from_public(states: Tensor, groups: int) -> Tensor:
    """(B, H, P, N) as (B, G, N, K P)."""
    return states.unflatten(1, (groups, -1)).permute(0, 1, 4, 2, 3).flatten(-2)


def _to_public(states: Tensor, heads: int) -> Tensor:
    """(B, G, N, K P) as (B, H, P, N)."""
    groups = states.shape[1]
    return states.unflatten(-1, (heads // groups, -1)).permute(0, 1, 3, 4, 2).flatten(1, 2).contiguous()
