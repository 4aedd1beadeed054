"""The compiled selective scan as PyTorch operators: traceable, exportable, differentiable once.

Tensors are channel-last here: (B, L, D), and (B, L, G, N) for B and C.
"""

from __future__ import annotations

import torch
from torch import Tensor

from custom_networks.ops._native_library import (
    CHUNK,
    SelectiveScan,
    SelectiveScanGradients,
    cut,
    load,
    pointer,
    rows,
)

_library = torch.library.Library("custom_networks", "FRAGMENT")
_INPUTS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, "
    "Tensor? initial_state"
)
_library.define(
    f"native_selective_scan({_INPUTS}, bool delta_softplus, bool reverse, bool keep_states) -> (Tensor, Tensor, Tensor)"
)
_library.define(
    f"native_selective_scan_backward(Tensor grad_out, Tensor? grad_last_state, {_INPUTS}, Tensor chunk_states, "
    "bool delta_softplus, bool reverse) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


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
    threads, slices = cut(batch, blocks, u.numel() * states)
    return SelectiveScan(
        batch=batch,
        length=length,
        channels=channels,
        states=states,
        groups=groups,
        softplus=delta_softplus,
        reverse=reverse,
        threads=threads,
        slices=slices,
        u=u.data_ptr(),
        delta=delta.data_ptr(),
        z=pointer(z),
        B=B.data_ptr(),
        C=C.data_ptr(),
        A=A.data_ptr(),
        D=pointer(D),
        delta_bias=pointer(delta_bias),
        initial_state=pointer(initial_state),
        u_batch=u.stride(0),
        u_time=u.stride(1),
        delta_batch=delta.stride(0),
        delta_time=delta.stride(1),
        z_batch=0 if z is None else z.stride(0),
        z_time=0 if z is None else z.stride(1),
        B_batch=B.stride(0),
        B_time=B.stride(1),
        B_group=B.stride(2),
        C_batch=C.stride(0),
        C_time=C.stride(1),
        C_group=C.stride(2),
    )


def _as_rows(*tensors: Tensor | None) -> list[Tensor | None]:
    u, delta, A, B, C, D, z, delta_bias, initial_state = tensors
    dense = [None if x is None else x.contiguous() for x in (A, D, delta_bias, initial_state)]
    return [rows(u), rows(delta), dense[0], rows(B), rows(C), dense[1], rows(z), *dense[2:]]


def _forward(*arguments: Tensor | bool | None) -> tuple[Tensor, Tensor, Tensor]:
    *inputs, delta_softplus, reverse, keep_states = arguments
    inputs = _as_rows(*inputs)
    u, A = inputs[0], inputs[2]
    outputs = _outputs(u, A, keep_states)
    scan = _describe(*inputs, delta_softplus, reverse)
    scan.out, scan.last_state, chunk_states = (x.data_ptr() for x in outputs)
    if keep_states:
        scan.chunk_states = chunk_states
    load(u.dtype).call("selective_scan_forward", u.dtype, scan)
    return outputs


def _outputs(u: Tensor, A: Tensor, keep_states: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Empty tensors for the output, the last state and the state entering each chunk (if wanted)."""
    (batch, length, channels), states = u.shape, A.shape[1]
    kept = (batch, -(-length // CHUNK), states, channels) if keep_states else (0,)
    return u.new_empty(u.shape), A.new_empty((batch, channels, states)), A.new_empty(kept)


def _fake_forward(*arguments: Tensor | bool | None) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(arguments[0], arguments[2], arguments[-1])


def _backward(grad_out: Tensor, grad_last_state: Tensor | None, *arguments: Tensor | bool | None) -> tuple[Tensor, ...]:
    *inputs, chunk_states, delta_softplus, reverse = arguments
    inputs = u, _, A, B, _, D, z, delta_bias, initial_state = _as_rows(*inputs)
    grad_out = rows(grad_out)
    grad_last_state = None if grad_last_state is None else grad_last_state.contiguous()
    scan = _describe(*inputs, delta_softplus, reverse)
    scan.chunk_states = chunk_states.data_ptr()

    batch, channels = u.shape[0], u.shape[2]
    du, ddelta, dz = (u.new_empty(u.shape if x is not None else 0) for x in (u, u, z))
    dA = A.new_empty((batch, *A.shape))
    dD, dbias = (A.new_empty((batch, channels) if x is not None else 0) for x in (D, delta_bias))
    # A slice leaves the rows of groups that it does not touch as they are.
    empty = A.new_empty if scan.groups == 1 else A.new_zeros
    dB, dC = (empty((scan.slices, *B.shape)) for _ in range(2))
    dinitial = A.new_empty(0 if initial_state is None else initial_state.shape)
    gradients = SelectiveScanGradients(
        out=grad_out.data_ptr(),
        out_batch=grad_out.stride(0),
        out_time=grad_out.stride(1),
        last_state=pointer(grad_last_state),
        u=du.data_ptr(),
        delta=ddelta.data_ptr(),
        z=dz.data_ptr(),
        A=dA.data_ptr(),
        D=None if D is None else dD.data_ptr(),
        delta_bias=None if delta_bias is None else dbias.data_ptr(),
        B=dB.data_ptr(),
        C=dC.data_ptr(),
        initial_state=None if initial_state is None else dinitial.data_ptr(),
    )
    load(u.dtype).call("selective_scan_backward", u.dtype, scan, gradients)
    dA, dD, dbias, dB, dC = (_sum_parts(x) for x in (dA, dD, dbias, dB, dC))
    return du, ddelta, dA, dB.to(B.dtype), dC.to(B.dtype), dD, dz, dbias, dinitial


def _sum_parts(parts: Tensor) -> Tensor:
    if parts.dim() == 1:
        return parts
    return parts.sum(0) if parts.shape[0] > 1 else parts.squeeze(0)


def _fake_backward(
    grad_out: Tensor, grad_last_state: Tensor | None, *arguments: Tensor | bool | None
) -> tuple[Tensor, ...]:
    return tuple(
        x.new_empty(0 if x is None else x.shape) if x is not None else grad_out.new_empty(0) for x in arguments[:9]
    )


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.delta_softplus, ctx.reverse, ctx.has_states = inputs
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, output[2])


def _differentiate(
    ctx: torch.autograd.function.FunctionCtx, grad_out: Tensor | None, grad_last_state: Tensor | None, _: None
) -> tuple[Tensor | None, ...]:
    *inputs, chunk_states = ctx.saved_tensors
    options = ctx.delta_softplus, ctx.reverse
    if grad_out is None and grad_last_state is None:
        return (None,) * 12
    if grad_out is None:
        grad_out = torch.zeros_like(inputs[0])
    operators = torch.ops.custom_networks
    if not ctx.has_states:
        chunk_states = operators.native_selective_scan(*inputs, *options, True)[2]
    gradients = operators.native_selective_scan_backward(grad_out, grad_last_state, *inputs, chunk_states, *options)
    present = (None if x is None else g for x, g in zip(inputs, gradients, strict=True))
    return (*present, None, None, None)


_library.impl("native_selective_scan", _forward, "CPU")
_library.impl("native_selective_scan_backward", _backward, "CPU")
torch.library.register_fake("custom_networks::native_selective_scan", _fake_forward, lib=_library)
torch.library.register_fake("custom_networks::native_selective_scan_backward", _fake_backward, lib=_library)
torch.library.register_autograd(
    "custom_networks::native_selective_scan", _differentiate, setup_context=_keep, lib=_library
)


def selective_scan(
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
) -> tuple[Tensor, Tensor]:
    """Selective scan of channel-last tensors.

    Args:
        u: (B, L, D), of dtype float32, bfloat16 or float64; ``delta`` and ``z`` are alike.
        delta: Step sizes before bias and softplus.
        A: (D, N), in the precision of the state (float64 for float64, else float32), as are the other parameters.
        B: (B, L, G, N), of the dtype of ``u``, as is ``C``.
        C: Output matrix.
        D: (D,).
        z: Gate.
        delta_bias: (D,).
        initial_state: (B, D, N).
        delta_softplus: Whether ``delta`` goes through softplus.
        reverse: Whether time runs from the last position to the first.

    Returns:
        Output like ``u`` and the last state (B, D, N).
    """
    inputs = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    # An exported program should not carry the chunk states: their number would pin the range of L.
    training = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    keep_states = training and not torch.compiler.is_exporting()
    out, last_state, _ = torch.ops.custom_networks.native_selective_scan(*inputs, delta_softplus, reverse, keep_states)
    return out, last_state
