"""The compiled selective scan on PyTorch tensors: channel-last, of any strides and floating dtypes."""

from __future__ import annotations

from torch import Tensor

from custom_networks.ops._layout import deliver
from custom_networks.ops._native_library import (
    CHUNK,
    SelectiveScan,
    SelectiveScanGradients,
    cut,
    in_dtypes,
    load,
    parameters,
    pointer,
    segments,
    streams,
    sum_parts,
)


def states_shape(u: Tensor, A: Tensor, B: Tensor) -> tuple[int, ...]:
    """Shape of the states kept for the backward pass: one at the start of each chunk."""
    return u.shape[0], -(-u.shape[1] // CHUNK), A.shape[1], u.shape[2]


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
    """Output (B, L, D), last state (B, D, N), and the states entering each chunk (empty unless ``save_states``).

    The output is added to the dense tensor ``add_to`` if there is one, which is then returned in its place.
    """
    dtype = u.dtype
    A, D, delta_bias, initial_state = parameters(u, A, D, delta_bias, initial_state)
    u, delta, B, C, z = streams(u, delta, B, C, z)
    in_place = add_to is not None and add_to.dtype == u.dtype
    out = add_to if in_place else u.new_empty(u.shape)
    last = A.new_empty((u.shape[0], *A.shape))
    states = A.new_empty(states_shape(u, A, B) if save_states else 0)
    scan = _describe(u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus, reverse)
    scan.out, scan.last_state = out.data_ptr(), last.data_ptr()
    scan.chunk_states = states.data_ptr() if save_states else None
    scan.accumulate = in_place
    _work_space = _segment_space(scan, A)
    load(u.dtype).call("selective_scan_forward", u.dtype, scan)
    out = out.to(dtype) if in_place or add_to is None else add_to.add_(out)
    return out, last, states


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
    grad_z: Tensor | None = None,
    add: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of u, delta, A, B, C, D, z, delta_bias and initial_state; None for what is absent.

    That of z is written, or added with ``add``, to ``grad_z`` if there is one: (B, L, D) with dense rows.
    """
    tensors = u, delta, A, B, C, D, z, delta_bias, initial_state
    A, D, delta_bias, initial_state, grad_last = parameters(u, A, D, delta_bias, initial_state, grad_last)
    u, delta, B, C, z, grad_out = streams(u, delta, B, C, z, grad_out)
    scan = _describe(u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus, reverse)
    scan.chunk_states = states.data_ptr()
    _work_space = _segment_space(scan, A)

    channels, pieces = u.shape[2], u.shape[0] * scan.segments
    du, ddelta = u.new_empty(u.shape), u.new_empty(u.shape)
    in_place = grad_z is not None and grad_z.dtype == u.dtype
    dz = grad_z if in_place else None if z is None else u.new_empty(u.shape)
    dA = A.new_empty((pieces, *A.shape))
    dD, dbias = (None if x is None else A.new_empty((pieces, channels)) for x in (D, delta_bias))
    # A slice leaves the rows of groups that it does not touch as they are.
    empty = A.new_empty if scan.groups == 1 else A.new_zeros
    dB, dC = (empty((scan.slices, *B.shape)) for _ in range(2))
    dinitial = None if initial_state is None else A.new_empty(initial_state.shape)
    gradients = SelectiveScanGradients(
        out=grad_out.data_ptr(),
        out_batch=grad_out.stride(0),
        out_time=grad_out.stride(1),
        last_state=grad_last.data_ptr(),
        u=du.data_ptr(),
        delta=ddelta.data_ptr(),
        z=pointer(dz),
        A=dA.data_ptr(),
        D=pointer(dD),
        delta_bias=pointer(dbias),
        B=dB.data_ptr(),
        C=dC.data_ptr(),
        initial_state=pointer(dinitial),
        add_to_z=in_place and add,
    )
    gradients.z_batch, gradients.z_time = (0, 0) if dz is None else dz.stride()[:2]
    load(u.dtype).call("selective_scan_backward", u.dtype, scan, gradients)
    if grad_z is not None and not in_place:
        dz = deliver(dz, grad_z, add)
    dA, dB, dC, dD, dbias = map(sum_parts, (dA, dB, dC, dD, dbias))
    return in_dtypes((du, ddelta, dA, dB, dC, dD, dz, dbias, dinitial), tensors)


def _segment_space(scan: SelectiveScan, A: Tensor) -> list[Tensor]:
    """Work space for the states that segments hand on, which must outlive the call."""
    if scan.segments == 1:
        return []
    rows = scan.batch, scan.segments
    space = [A.new_empty((*rows, scan.states, scan.channels)), A.new_empty((*rows, scan.channels))]
    scan.segment_states, scan.segment_steps = (x.data_ptr() for x in space)
    return space


def _describe(
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
) -> SelectiveScan:
    """The C structure of the inputs. All tensors must outlive it."""
    (batch, length, channels), (groups, states) = u.shape, B.shape[2:]
    blocks = groups * -(-(channels // groups) // load(u.dtype).lanes)
    updates = u.numel() * states
    threads, slices = cut(batch, blocks, updates)
    count = segments(batch, blocks, updates, -(-length // CHUNK))
    if count > 1:
        threads, slices = batch * blocks * count, blocks
    scan = SelectiveScan(
        batch=batch,
        length=length,
        channels=channels,
        states=states,
        groups=groups,
        softplus=delta_softplus,
        reverse=reverse,
        threads=threads,
        slices=slices,
        segments=count,
        u=u.data_ptr(),
        delta=delta.data_ptr(),
        z=pointer(z),
        B=B.data_ptr(),
        C=C.data_ptr(),
        A=A.data_ptr(),
        D=pointer(D),
        delta_bias=pointer(delta_bias),
        initial_state=pointer(initial_state),
    )
    scan.u_batch, scan.u_time = u.stride()[:2]
    scan.delta_batch, scan.delta_time = delta.stride()[:2]
    scan.z_batch, scan.z_time = (0, 0) if z is None else z.stride()[:2]
    scan.B_batch, scan.B_time, scan.B_group = B.stride()[:3]
    scan.C_batch, scan.C_time, scan.C_group = C.stride()[:3]
    return scan
