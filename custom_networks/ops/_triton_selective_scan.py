"""The selective scan on Triton kernels, for one direction or two in one launch.

Operands carry a leading axis K of directions here: u, delta, z (K, B, L, D), B and C (K, B, L, G, N), A (K, D, N), D
and delta_bias (K, D), initial state (K, B, D, N). An operand that both directions share is expanded, not copied.
``direction`` is 0 (forwards), 1 (in reverse) or 2: forwards for the first, in reverse for the second.
"""

from __future__ import annotations

import torch
from torch import Tensor

from custom_networks.ops._triton import CHUNK
from custom_networks.ops._triton_launch import (
    PROGRAMS_PER_PROCESSOR,
    alignment,
    as_float,
    dense_rows,
    launch,
    power_of_two,
    processors,
)
from custom_networks.ops._triton_rows import spread_rows, sum_rows
from custom_networks.ops._triton_selective_scan_backward import adjoint, gradients
from custom_networks.ops._triton_selective_scan_forward import compose, scan

# A chunk in the backward pass: four steps in each of 16 lanes.
STEPS, EACH, LANES = CHUNK, 4, CHUNK // 4
_COMPOSED, _AHEAD = 128, 8
# Channels of one program of the backward kernel; programs a processor that one of up to so many launches has.
_GROUP, _VECTOR = 4, 2
_PROGRAMS, _LAUNCHES = 40, 16


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
) -> tuple[Tensor, Tensor, Tensor]:
    """Output (B, L, D), last state (B, D, N), and the states entering each chunk (empty unless ``save_states``)."""
    operands = _one_direction(u, delta, A, B, C, D, z, delta_bias, initial_state)
    out, last, states = scan_directions(*operands, delta_softplus, int(reverse), save_states)
    return out[0], last[0], states[0] if save_states else states


def backward(
    grad_out: Tensor,
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
    states: Tensor,
    delta_softplus: bool,
    reverse: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients of the nine tensors; None for what is absent."""
    operands = _one_direction(u, delta, A, B, C, D, z, delta_bias, initial_state)
    found = gradients_of_directions(
        grad_out[None], grad_last[None], *operands, states[None], delta_softplus, int(reverse)
    )
    return tuple(None if x is None else x[0] for x in found)


def forward_both(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    save_states: bool,
) -> tuple[Tensor, Tensor]:
    """Output (2, B, L, D) of operands with the axis of directions, and the states entering each chunk."""
    out, _, states = scan_directions(u, delta, A, B, C, D, z, delta_bias, None, delta_softplus, 2, save_states)
    return out, states


def backward_both(
    grad_out: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    states: Tensor,
    delta_softplus: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients of the eight tensors; None for what is absent."""
    tensors = u, delta, A, B, C, D, z, delta_bias, None
    return gradients_of_directions(grad_out, None, *tensors, states, delta_softplus, 2)[:8]


def _one_direction(*operands: Tensor | None) -> list[Tensor | None]:
    return [None if x is None else x[None] for x in operands]


def scan_directions(
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
    direction: int,
    save_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output (K, B, L, D), last state (K, B, D, N), and the states entering each chunk (empty unless wanted).

    One launch where the programs, one for 32 channels, fill the GPU: four a processor or more. Three otherwise.
    """
    u, delta, z, B, C = (dense_rows(x) for x in (u, delta, z, B, C))
    A, D, delta_bias, initial_state = (as_float(x) for x in (A, D, delta_bias, initial_state))
    (directions, batch, length, channels), (groups, states_) = u.shape, B.shape[3:]
    chunks, per_group, device = -(-length // STEPS), channels // groups, u.device
    width = min(32, power_of_two(per_group))
    blocks = groups * -(-per_group // width)
    out = torch.empty(u.shape, dtype=u.dtype, device=device)
    last = torch.empty((directions, batch, channels, states_), dtype=torch.float32, device=device)
    split = chunks > 1 and directions * batch * blocks < PROGRAMS_PER_PROCESSOR * processors(device)
    kept = (directions, batch, chunks, channels, states_) if save_states or split else (0,)
    states = torch.empty(kept, dtype=torch.float32, device=device)
    sums = torch.empty((directions, batch, chunks, channels) if split else (0,), dtype=torch.float32, device=device)

    def run(summarise: bool) -> None:
        pieces = chunks if split else 1
        launch(
            scan,
            directions * batch * pieces * blocks,
            device,
            *(u, delta, z, B, C, A, D, delta_bias, initial_state, states, sums, out, last),
            *(*u.stride()[:3], *delta.stride()[:3], *(z.stride()[:3] if z is not None else (0, 0, 0))),
            *(*B.stride()[:4], *C.stride()[:4]),
            *(batch, length, channels, blocks, pieces, chunks, per_group),
            N=states_,
            PADDED_N=power_of_two(states_),
            CHANNELS=width,
            STEPS=STEPS,
            ALIGN=alignment(B, C),
            DIRECTION=direction,
            SOFTPLUS=delta_softplus,
            HAS_D=D is not None,
            HAS_Z=z is not None,
            HAS_BIAS=delta_bias is not None,
            HAS_INITIAL=initial_state is not None,
            SUMMARISE=summarise,
            SAVE=save_states and not split,
            num_warps=_warps(states_),
        )

    if split:
        run(summarise=True)
        _compose(states, sums, A, initial_state, last, back=False)
    run(summarise=False)
    return out, last, states if save_states else states.new_empty(0)


def _compose(states: Tensor, sums: Tensor, A: Tensor, initial: Tensor | None, last: Tensor, back: bool) -> None:
    directions, batch, chunks, channels, n = states.shape
    launch(
        compose,
        (-(-n * channels // _COMPOSED), directions * batch),
        states.device,
        *(states, sums, A, initial, last, batch, channels, chunks, n),
        HAS_INITIAL=initial is not None,
        BACK=back,
        SIZE=_COMPOSED,
        AHEAD=_AHEAD,
        num_warps=_COMPOSED // 32,
    )


def gradients_of_directions(
    grad_out: Tensor,
    grad_last: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    states: Tensor,
    delta_softplus: bool,
    direction: int,
) -> tuple[Tensor | None, ...]:
    """Gradients of the nine tensors, each (K, ...), in the dtype of its tensor; None for what is absent."""
    tensors = u, delta, A, B, C, D, z, delta_bias, initial_state
    grad_out, u, delta, z, B, C = (dense_rows(x) for x in (grad_out, u, delta, z, B, C))
    A, D, delta_bias, grad_last = (as_float(x) for x in (A, D, delta_bias, grad_last))
    (directions, batch, length, channels), (groups, n) = u.shape, B.shape[3:]
    chunks, per_group, device, rows = -(-length // STEPS), channels // groups, u.device, directions * batch
    z_strides = z.stride()[:3] if z is not None else (0, 0, 0)

    def empty(*shape: int) -> Tensor:
        return torch.empty((directions, batch, *shape), dtype=torch.float32, device=device)

    def like(x: Tensor | None) -> Tensor | None:
        return None if x is None else torch.empty(x.shape, dtype=x.dtype, device=device)

    adjoints, sums = empty(chunks, channels, n), empty(chunks, channels)
    width = min(32, power_of_two(per_group))
    blocks = groups * -(-per_group // width)
    launch(
        adjoint,
        rows * chunks * blocks,
        device,
        *(grad_out, delta, z, C, A, delta_bias, adjoints, sums),
        *(*grad_out.stride()[:3], *delta.stride()[:3], *z_strides, *C.stride()[:4]),
        *(batch, length, channels, blocks, chunks, per_group),
        N=n,
        PADDED_N=power_of_two(n),
        CHANNELS=width,
        STEPS=STEPS,
        ALIGN=alignment(C),
        DIRECTION=direction,
        SOFTPLUS=delta_softplus,
        HAS_Z=z is not None,
        HAS_BIAS=delta_bias is not None,
        num_warps=_warps(n),
    )
    dinitial = empty(channels, n)
    _compose(adjoints, sums, A, grad_last, dinitial, back=True)

    B_rows, C_rows = (_spread(x, chunks, direction) for x in (B, C))
    blocks = -(-per_group // (_GROUP * _VECTOR))
    # Parts of dB and dC take memory. Where a few blocks of channels fill the GPU, later launches add theirs to them.
    programs = rows * chunks * groups
    parts = min(blocks, max(-(-blocks // _LAUNCHES), -(-_PROGRAMS * processors(device) // programs)))
    du, ddelta, dz = like(u), like(delta), like(z)
    dA, dD, dbias = empty(chunks, channels, n), empty(chunks, channels), empty(chunks, channels)
    partial = torch.empty((parts, rows, groups, n, chunks * STEPS, 2), dtype=torch.float32, device=device)
    for first in range(0, blocks, parts):
        launch(
            gradients,
            programs * parts,
            device,
            *(grad_out, u, delta, z, B_rows, C_rows, A, D, delta_bias, states, adjoints),
            *(du, ddelta, dz, dA, partial, dD, dbias),
            *(*grad_out.stride()[:3], *u.stride()[:3], *delta.stride()[:3], *z_strides),
            *(batch, length, channels, parts, chunks, per_group, groups, first),
            N=n,
            GROUP=_GROUP,
            VECTOR=_VECTOR,
            LANES=LANES,
            DIRECTION=direction,
            SOFTPLUS=delta_softplus,
            HAS_D=D is not None,
            HAS_Z=z is not None,
            HAS_BIAS=delta_bias is not None,
            ADD=first > 0,
            num_warps=_GROUP * LANES // 32,
            # Ten warps share the registers of a processor.
            maxnreg=200,
        )
    dB, dC = like(B), like(C)
    launch(
        sum_rows,
        rows * chunks * groups,
        device,
        *(partial, dB, dC, batch, length, groups, chunks, parts, partial.stride(0)),
        N=n,
        PADDED_N=power_of_two(n),
        STEPS=STEPS,
        DIRECTION=direction,
        num_warps=4,
    )
    dA = dA.sum((1, 2))
    dD, dbias = (None if x is None else y.sum((1, 2)) for x, y in ((D, dD), (delta_bias, dbias)))
    dinitial = None if initial_state is None else dinitial
    found = du, ddelta, dA, dB, dC, dD, dz, dbias, dinitial
    return tuple(None if x is None else g.to(x.dtype).contiguous() for x, g in zip(tensors, found, strict=True))


def _warps(states: int) -> int:
    """Warps of a sequential program: a lane has room for 32 states of its channel."""
    return max(1, power_of_two(states) // 32)


def _spread(rows: Tensor, chunks: int, direction: int) -> Tensor:
    """B or C as the backward kernel reads it."""
    directions, batch, length, groups, n = rows.shape
    spread = torch.empty((directions, batch, groups, n, chunks, EACH, LANES), dtype=torch.float32, device=rows.device)
    launch(
        spread_rows,
        directions * batch * groups * chunks,
        rows.device,
        *(rows, spread, *rows.stride()[:4], batch, length, groups, chunks),
        N=n,
        PADDED_N=power_of_two(n),
        EACH=EACH,
        LANES=LANES,
        DIRECTION=direction,
        num_warps=4,
    )
    return spread
