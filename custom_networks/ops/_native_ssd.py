"""The compiled state-space dual scan on PyTorch tensors of any strides and floating dtypes."""

from __future__ import annotations

from torch import Tensor

from custom_networks.ops._native_library import (
    CHUNK,
    Ssd,
    SsdGradients,
    cut,
    in_dtypes,
    load,
    parameters,
    pointer,
    streams,
    sum_parts,
)


def states_shape(x: Tensor, B: Tensor, chunk_size: int) -> tuple[int, ...]:
    """Shape of the states kept for the backward pass: one at the start of each chunk, N before P."""
    batch, length, heads, width = x.shape
    return batch, -(-length // CHUNK), heads, B.shape[3], width


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
    """Output (B, L, H, P), final state (B, H, P, N) and the states entering each chunk (empty unless ``save_states``).

    ``chunk_size`` plays no part.
    """
    dtype = x.dtype
    dt, A, D, dt_bias, initial_states = parameters(x, dt, A, _as_matrix(D, x), dt_bias, initial_states)
    x, B, C, z = streams(x, B, C, z)
    out = x.new_empty(x.shape)
    final = A.new_empty((x.shape[0], *x.shape[2:], B.shape[3]))
    states = A.new_empty(states_shape(x, B, chunk_size) if save_states else 0)
    scan = _describe(x, dt, A, B, C, D, z, dt_bias, initial_states, dt_softplus, reverse)
    scan.out, scan.last_state = out.data_ptr(), final.data_ptr()
    scan.chunk_states = states.data_ptr() if save_states else None
    load(x.dtype).call("ssd_forward", x.dtype, scan)
    return out.to(dtype), final, states


def backward(
    grad_out: Tensor,
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
    states: Tensor,
    dt_softplus: bool,
    reverse: bool,
    chunk_size: int,
) -> tuple[Tensor | None, ...]:
    """Gradients of x, dt, A, B, C, D, z, dt_bias and initial_states; None for what is absent."""
    tensors = x, dt, A, B, C, D, z, dt_bias, initial_states
    shared = D is not None and D.dim() == 1
    dt, A, D, dt_bias, initial_states, grad_final = parameters(
        x, dt, A, _as_matrix(D, x), dt_bias, initial_states, grad_final
    )
    x, B, C, z, grad_out = streams(x, B, C, z, grad_out)
    scan = _describe(x, dt, A, B, C, D, z, dt_bias, initial_states, dt_softplus, reverse)
    scan.chunk_states = states.data_ptr()

    batch, heads = x.shape[0], x.shape[2]
    dx, dz = (None if v is None else x.new_empty(x.shape) for v in (x, z))
    ddt, dinitial = (None if v is None else v.new_empty(v.shape) for v in (dt, initial_states))
    dA, dbias = (None if v is None else A.new_empty((batch, heads)) for v in (A, dt_bias))
    dD = None if D is None else A.new_empty((batch, *D.shape))
    # A slice leaves the rows of groups that it does not touch as they are.
    empty = A.new_empty if scan.groups == 1 else A.new_zeros
    dB, dC = (empty((scan.slices, *B.shape)) for _ in range(2))
    gradients = SsdGradients(
        out=grad_out.data_ptr(),
        last_state=grad_final.data_ptr(),
        x=dx.data_ptr(),
        z=pointer(dz),
        dt=ddt.data_ptr(),
        A=dA.data_ptr(),
        D=pointer(dD),
        dt_bias=pointer(dbias),
        B=dB.data_ptr(),
        C=dC.data_ptr(),
        initial_state=pointer(dinitial),
    )
    gradients.out_batch, gradients.out_time, gradients.out_head = grad_out.stride()[:3]
    load(x.dtype).call("ssd_backward", x.dtype, scan, gradients)
    dA, dB, dC, dD, dbias = map(sum_parts, (dA, dB, dC, dD, dbias))
    dD = dD.sum(1) if shared else dD
    return in_dtypes((dx, ddt, dA, dB, dC, dD, dz, dbias, dinitial), tensors)


def _as_matrix(D: Tensor | None, x: Tensor) -> Tensor | None:
    """The weight of the skip connection as (H, P)."""
    return D[:, None].expand(x.shape[2:]) if D is not None and D.dim() == 1 else D


def _describe(
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
) -> Ssd:
    """The C structure of the inputs. All tensors must outlive it."""
    (batch, length, heads, width), (groups, states) = x.shape, B.shape[2:]
    threads, slices = cut(batch, heads, x.numel() * states)
    scan = Ssd(
        batch=batch,
        length=length,
        heads=heads,
        width=width,
        groups=groups,
        states=states,
        softplus=dt_softplus,
        reverse=reverse,
        threads=threads,
        slices=slices,
        x=x.data_ptr(),
        B=B.data_ptr(),
        C=C.data_ptr(),
        z=pointer(z),
        dt=dt.data_ptr(),
        A=A.data_ptr(),
        D=pointer(D),
        dt_bias=pointer(dt_bias),
        initial_state=pointer(initial_states),
    )
    scan.x_batch, scan.x_time, scan.x_head = x.stride()[:3]
    scan.z_batch, scan.z_time, scan.z_head = (0, 0, 0) if z is None else z.stride()[:3]
    scan.B_batch, scan.B_time, scan.B_group = B.stride()[:3]
    scan.C_batch, scan.C_time, scan.C_group = C.stride()[:3]
    scan.dt_batch, scan.dt_time, scan.dt_head = dt.stride()
    return scan
