"""Selective scan in plain PyTorch: slab by slab, with a hand-written backward pass.

A buffer of a few time steps holds decays and states as (T, B, M, G, N, D / G): T steps of M chunks side by side. It is
filled by vector operations, the recurrence is T in-place multiply-adds, sums over states are matrix products. Forward
keeps only the state at the start of each slab; backward restarts from there, so that nothing of size (B, D, L, N) ever
exists. With few channels one chunk is too little work for a vector operation: then many chunks run side by side from
a state of zero, their summaries are composed, and a second sweep runs from the right states. Inverse decays, which
overflow, are never formed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from custom_networks.ops._chunks import Slab, slabs
from custom_networks.ops._layout import deliver, state_dtype

# exp2 is two to three times as fast as exp in PyTorch on a CPU.
_LOG2_E = 1.0 / math.log(2.0)


def slab_shape(u: Tensor, A: Tensor) -> tuple[int, int]:
    """Chunks side by side and steps of a chunk for inputs of this size."""
    # Measured on a CPU: buffers of about 3 MB are fastest, and below 4096 elements a step the calls dominate.
    fits, few = (3 << 18, 1 << 12) if u.device.type == "cpu" else (1 << 24, 1 << 20)
    elements = max(1, u.shape[0]) * A.numel()
    if elements >= few:
        return 1, max(16, A.shape[1] // 2, min(64, fits // elements))
    return max(1, min(64, fits // (32 * elements))), 32


def states_shape(u: Tensor, A: Tensor, B: Tensor) -> tuple[int, ...]:
    """Shape of the states kept for the backward pass: one a slab."""
    chunks, steps = slab_shape(u, A)
    groups = B.shape[2]
    return -(-u.shape[1] // (chunks * steps)), u.shape[0], groups, A.shape[1], A.shape[0] // groups


@dataclass
class _Inputs:
    """The arguments of the scan, read slab by slab in the precision of the state."""

    u: Tensor
    delta: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    bias: Tensor | None
    softplus: bool

    def __post_init__(self) -> None:
        self.dtype = state_dtype(self.u.dtype)
        self.groups = self.B.shape[2]
        self.D, self.bias = (None if v is None else v.to(self.dtype) for v in (self.D, self.bias))

    def raw_delta(self, slab: Slab) -> Tensor:
        raw = slab.rows(self.delta).to(self.dtype)
        return raw if self.bias is None else raw + self.bias

    def step_size(self, slab: Slab) -> Tensor:
        raw = self.raw_delta(slab)
        return F.softplus(raw) if self.softplus else raw

    def read(self, x: Tensor, slab: Slab) -> Tensor:
        return slab.rows(x).to(self.dtype)

    def channels(self, rows: Tensor, slab: Slab) -> Tensor:
        """(B, l, D) rows as (T, B, M, G, 1, D / G)."""
        return slab.split(rows).movedim(2, 0).unflatten(-1, (self.groups, 1, -1))

    def matrix(self, x: Tensor, slab: Slab) -> Tensor:
        """B or C as (T, B, M, G, 1, N)."""
        return slab.split(self.read(x, slab)).movedim(2, 0).unsqueeze(-2)


class _Work:
    """The buffers of one slab and the recurrence within it."""

    def __init__(self, inputs: _Inputs, A: Tensor, slab: Slab, space: list[Tensor]) -> None:
        step_size = inputs.step_size(slab)
        self.delta = inputs.channels(step_size, slab)
        self.delta_u = inputs.channels(step_size * inputs.read(inputs.u, slab), slab)
        self.B, self.C = inputs.matrix(inputs.B, slab), inputs.matrix(inputs.C, slab)
        self.chunks, self.A = slab.chunks, A
        steps, batch = slab.steps, self.delta.shape[1]
        self.shape = (batch, slab.chunks, *A.shape)
        self.buffers = [b[: math.prod(self.shape) * (steps + 1)].view(steps + 1, *self.shape) for b in space]

    def run(self, state: Tensor, reverse: bool) -> Tensor:
        """Fills ``decay`` and ``states`` from the ``state`` (B, G, N, D / G) entering the slab; returns the one after.

        ``previous`` are the states before each step, as another view of the same memory.
        """
        buffer = self.buffers[1]
        self.decay = torch.mul(self.delta, self.A, out=self.buffers[0][:-1]).exp2_()
        self.previous, self.states = (buffer[1:], buffer[:-1]) if reverse else (buffer[:-1], buffer[1:])
        torch.mul(self.delta_u, self.B.transpose(-1, -2), out=self.states)
        decays, rows = _time(self.decay, reverse), _time(self.states, reverse)
        first = buffer[-1 if reverse else 0]
        after = self._enter(first, rows, decays[1:], state, None, reverse)
        _sweep(rows, decays[1:], decays[0] * first)
        return rows[-1][:, 0].clone() if after is None else after

    def run_back(self, grad: Tensor, carry: Tensor, reverse: bool) -> Tensor:
        """Fills ``adjoint`` from the gradient of y and the ``carry`` from later slabs; returns the carry to earlier."""
        self.adjoint = torch.mul(grad, self.C.transpose(-1, -2), out=self.buffers[2][:-1])
        decays, rows = _time(self.decay, not reverse), _time(self.adjoint, not reverse)
        first = torch.empty_like(rows[0])
        after = self._enter(first, rows, decays[:-1], carry, decays[-1], not reverse)
        _sweep(rows, decays[:-1], first)
        return (decays[-1] * rows[-1])[:, 0] if after is None else after

    def _enter(
        self,
        first: Tensor,
        rows: Sequence[Tensor],
        links: Sequence[Tensor],
        carry: Tensor,
        exit_decay: Tensor | None,
        last_first: bool,
    ) -> Tensor | None:
        """Writes what enters each chunk into ``first`` (B, M, ...); returns what leaves the last, None if one chunk.

        ``rows`` are the gains of the steps in the order of the recurrence, ``links`` the decays between them;
        ``exit_decay`` is one more decay on the way out of a chunk.
        """
        if self.chunks == 1:
            first[:, 0] = carry
            return None
        ends = rows[0]
        for row, link in zip(rows[1:], links, strict=True):
            ends = torch.addcmul(row, link, ends)
        if exit_decay is not None:
            ends = exit_decay * ends
        whole = torch.exp2(self.delta.sum(0) * self.A)
        for m in range(self.chunks)[:: -1 if last_first else 1]:
            first[:, m] = carry
            carry = torch.addcmul(ends[:, m], whole[:, m], carry)
        return carry


def _time(x: Tensor, last_first: bool) -> Sequence[Tensor]:
    return x.unbind(0)[:: -1 if last_first else 1]


def _join(slab: Slab, pieces: Tensor) -> Tensor:
    """(T, B, M, ...) as (B, l, ...)."""
    return slab.join(pieces.movedim(0, 2))


def _sweep(rows: Sequence[Tensor], links: Sequence[Tensor], inflow: Tensor) -> None:
    """In place: ``rows[0] += inflow``, then ``rows[i] += links[i - 1] * rows[i - 1]``."""
    rows[0].add_(inflow)
    for before, row, link in zip(rows, rows[1:], links, strict=False):
        row.addcmul_(link, before)


def _prepare(inputs: _Inputs, A: Tensor, buffers: int) -> tuple[Tensor, list[Tensor], int, int]:
    """A scaled for exp2 as (G, N, D / G), work space, and the shape of a slab."""
    chunks, steps = slab_shape(inputs.u, A)
    steps = min(steps, inputs.u.shape[1])
    size = (steps + 1) * chunks * inputs.u.shape[0] * A.numel()
    space = [torch.empty(size, dtype=inputs.dtype, device=A.device) for _ in range(buffers)]
    A = A.to(inputs.dtype).unflatten(0, (inputs.groups, -1)).transpose(1, 2).contiguous() * _LOG2_E
    return A, space, chunks, steps


def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
    save_states: bool,
    add_to: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output (B, L, D), last state (B, D, N), and the states entering each slab (empty unless ``save_states``).

    The output is added to the tensor ``add_to`` if there is one, which is then returned in its place.
    """
    inputs = _Inputs(u, delta, B, C, D, z, delta_bias, delta_softplus)
    shape = states_shape(u, A, B)
    out = torch.empty(u.shape, dtype=u.dtype, device=u.device) if add_to is None else add_to
    kept = torch.empty(shape if save_states else (0,), dtype=inputs.dtype, device=u.device)
    if initial_state is None:
        state = torch.zeros(shape[1:], dtype=inputs.dtype, device=u.device)
    else:
        state = _from_public(initial_state.to(inputs.dtype), inputs.groups)
    A, space, chunks, steps = _prepare(inputs, A, 2)
    for slab in slabs(u.shape[1], chunks, steps, reverse):
        if save_states:
            kept[slab.index] = state
        work = _Work(inputs, A, slab, space)
        state = work.run(state, reverse)
        y = _join(slab, torch.matmul(work.C, work.states).flatten(-3))
        if D is not None:
            y = torch.addcmul(y, inputs.D, inputs.read(u, slab))
        if z is not None:
            y = y * F.silu(inputs.read(z, slab))
        deliver(y, slab.rows(out), add_to is not None)
    return out, _to_public(state), kept


def backward(
    grad: Tensor,
    grad_last: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    kept: Tensor,
    delta_softplus: bool,
    reverse: bool,
    grad_z: Tensor | None = None,
    add: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of u, delta, A, B, C, D, z, delta_bias and initial_state; None for what is absent.

    That of z is written, or added with ``add``, to ``grad_z`` if there is one.
    """
    inputs = _Inputs(u, delta, B, C, D, z, delta_bias, delta_softplus)
    du, ddelta, dz = (
        None if v is None else torch.empty(v.shape, dtype=v.dtype, device=u.device) for v in (u, delta, z)
    )
    dz = dz if grad_z is None else grad_z
    dB, dC = (torch.empty(v.shape, dtype=v.dtype, device=u.device) for v in (B, C))
    scaled_A, space, chunks, steps = _prepare(inputs, A, 3)
    dA = torch.zeros_like(scaled_A)
    dD, dbias = (torch.zeros(A.shape[0], dtype=inputs.dtype, device=u.device) for _ in range(2))
    carry = _from_public(grad_last.to(inputs.dtype), inputs.groups)

    for slab in slabs(u.shape[1], chunks, steps, not reverse):
        u_, gy = inputs.read(u, slab), inputs.read(grad, slab)
        work = _Work(inputs, scaled_A, slab, space)
        work.run(kept[slab.index], reverse)
        if z is not None:
            y = _join(slab, torch.matmul(work.C, work.states).flatten(-3))
            y = y if D is None else torch.addcmul(y, inputs.D, u_)
            z_ = inputs.read(z, slab)
            gate = torch.sigmoid(z_)
            deliver(gy * y * gate * (1 + z_ * (1 - gate)), slab.rows(dz), add)
            gy = gy * z_ * gate
        grad_y = inputs.channels(gy, slab)
        carry = work.run_back(grad_y, carry, reverse)
        slab.rows(dC).copy_(_join(slab, torch.matmul(grad_y, work.states.transpose(-1, -2)).squeeze(-2)))
        slab.rows(dB).copy_(_join(slab, torch.matmul(work.delta_u, work.adjoint.transpose(-1, -2)).squeeze(-2)))
        adjoint_B = _join(slab, torch.matmul(work.B, work.adjoint).flatten(-3))

        # Gradient of the exponent, adjoint * decay * previous state, in place of the decay.
        exponent = work.decay.mul_(work.previous).mul_(work.adjoint)
        dA += torch.mul(exponent, work.delta, out=work.adjoint).sum((0, 1, 2))
        from_decay = _join(slab, exponent.mul_(scaled_A).sum(-2).flatten(-2)) / _LOG2_E
        d_step = torch.addcmul(from_decay, u_, adjoint_B)
        if delta_softplus:
            d_step = d_step * torch.sigmoid(inputs.raw_delta(slab))
        slab.rows(ddelta).copy_(d_step)
        d_u = inputs.step_size(slab) * adjoint_B
        slab.rows(du).copy_(d_u if D is None else torch.addcmul(d_u, inputs.D, gy))
        if D is not None:
            dD += (gy * u_).sum((0, 1))
        if delta_bias is not None:
            dbias += d_step.sum((0, 1))

    dA = dA.transpose(1, 2).flatten(0, 1).to(A.dtype).contiguous()
    dD = None if D is None else dD.to(D.dtype)
    dbias = None if delta_bias is None else dbias.to(delta_bias.dtype)
    dinitial = None if initial_state is None else _to_public(carry).to(initial_state.dtype)
    return du, ddelta, dA, dB, dC, dD, dz, dbias, dinitial


def _from_public(states: Tensor, groups: int) -> Tensor:
    """(B, D, N) as (B, G, N, D / G)."""
    return states.unflatten(1, (groups, -1)).transpose(-1, -2)


def _to_public(states: Tensor) -> Tensor:
    """(B, G, N, D / G) as (B, D, N)."""
    return states.transpose(-1, -2).flatten(1, 2).contiguous()
