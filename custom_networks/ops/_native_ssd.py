"""The compiled state-space dual scan as a PyTorch operator: traceable, exportable, differentiable once."""

from __future__ import annotations

import torch
from torch import Tensor

from custom_networks.ops._native_library import Ssd, SsdGradients, cut, load, pointer, rows

_library = torch.library.Library("custom_networks", "FRAGMENT")
_INPUTS = "Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? dt_bias, Tensor? initial"
_library.define(f"native_ssd_scan({_INPUTS}, bool dt_softplus, bool reverse) -> (Tensor, Tensor)")
_library.define(
    f"native_ssd_scan_backward(Tensor grad_out, Tensor? grad_last_state, {_INPUTS}, bool dt_softplus, bool reverse) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _describe(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial: Tensor | None,
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
        initial_state=pointer(initial),
    )
    scan.x_batch, scan.x_time, scan.x_head = x.stride()[:3]
    scan.z_batch, scan.z_time, scan.z_head = (0, 0, 0) if z is None else z.stride()[:3]
    scan.B_batch, scan.B_time, scan.B_group = B.stride()[:3]
    scan.C_batch, scan.C_time, scan.C_group = C.stride()[:3]
    scan.dt_batch, scan.dt_time, scan.dt_head = dt.stride()
    return scan


def _as_rows(*tensors: Tensor | None) -> list[Tensor | None]:
    x, dt, A, B, C, D, z, dt_bias, initial = tensors
    dense = [None if v is None else v.contiguous() for v in (A, D, dt_bias, initial)]
    return [rows(x), dt, dense[0], rows(B), rows(C), dense[1], rows(z), *dense[2:]]


def _forward(*arguments: Tensor | bool | None) -> tuple[Tensor, Tensor]:
    inputs = _as_rows(*arguments[:-2])
    x = inputs[0]
    outputs = _outputs(x, inputs[2], inputs[3])
    scan = _describe(*inputs, *arguments[-2:])
    scan.out, scan.last_state = (v.data_ptr() for v in outputs)
    load(x.dtype).call("ssd_forward", x.dtype, scan)
    return outputs


def _outputs(x: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), A.new_empty((x.shape[0], *x.shape[2:], B.shape[-1]))


def _fake_forward(*arguments: Tensor | bool | None) -> tuple[Tensor, Tensor]:
    return _outputs(arguments[0], arguments[2], arguments[3])


def _backward(grad_out: Tensor, grad_last_state: Tensor | None, *arguments: Tensor | bool | None) -> tuple[Tensor, ...]:
    inputs = x, dt, A, B, _, D, z, dt_bias, initial = _as_rows(*arguments[:-2])
    grad_out = rows(grad_out)
    grad_last_state = None if grad_last_state is None else grad_last_state.contiguous()
    scan = _describe(*inputs, *arguments[-2:])

    batch, heads = x.shape[0], x.shape[2]
    dx, dz = (x.new_empty(x.shape if v is not None else 0) for v in (x, z))
    ddt = dt.new_empty(dt.shape)
    dA, dbias = (A.new_empty((batch, heads) if v is not None else 0) for v in (A, dt_bias))
    dD = A.new_empty(0 if D is None else (batch, *D.shape))
    dB, dC = (A.new_zeros((scan.slices, *B.shape)) for _ in range(2))
    dinitial = A.new_empty(0 if initial is None else initial.shape)
    gradients = SsdGradients(
        out=grad_out.data_ptr(),
        last_state=pointer(grad_last_state),
        x=dx.data_ptr(),
        z=None if z is None else dz.data_ptr(),
        dt=ddt.data_ptr(),
        A=dA.data_ptr(),
        D=None if D is None else dD.data_ptr(),
        dt_bias=None if dt_bias is None else dbias.data_ptr(),
        B=dB.data_ptr(),
        C=dC.data_ptr(),
        initial_state=None if initial is None else dinitial.data_ptr(),
    )
    gradients.out_batch, gradients.out_time, gradients.out_head = grad_out.stride()[:3]
    load(x.dtype).call("ssd_backward", x.dtype, scan, gradients)
    dA, dB, dC = dA.sum(0), dB.sum(0).to(B.dtype), dC.sum(0).to(B.dtype)
    return dx, ddt, dA, dB, dC, dD if D is None else dD.sum(0), dz, dbias if dt_bias is None else dbias.sum(0), dinitial


def _fake_backward(
    grad_out: Tensor, grad_last_state: Tensor | None, *arguments: Tensor | bool | None
) -> tuple[Tensor, ...]:
    return tuple(grad_out.new_empty(0) if v is None else v.new_empty(v.shape) for v in arguments[:9])


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.dt_softplus, ctx.reverse = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _differentiate(
    ctx: torch.autograd.function.FunctionCtx, grad_out: Tensor | None, grad_last_state: Tensor | None
) -> tuple[Tensor | None, ...]:
    inputs = ctx.saved_tensors
    if grad_out is None and grad_last_state is None:
        return (None,) * 11
    if grad_out is None:
        grad_out = torch.zeros_like(inputs[0])
    operator = torch.ops.custom_networks.native_ssd_scan_backward
    gradients = operator(grad_out, grad_last_state, *inputs, ctx.dt_softplus, ctx.reverse)
    return (*(None if v is None else g for v, g in zip(inputs, gradients, strict=True)), None, None)


_library.impl("native_ssd_scan", _forward, "CPU")
_library.impl("native_ssd_scan_backward", _backward, "CPU")
torch.library.register_fake("custom_networks::native_ssd_scan", _fake_forward, lib=_library)
torch.library.register_fake("custom_networks::native_ssd_scan_backward", _fake_backward, lib=_library)
torch.library.register_autograd("custom_networks::native_ssd_scan", _differentiate, setup_context=_keep, lib=_library)


def ssd_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial: Tensor | None,
    dt_softplus: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """State-space dual scan.

    Args:
        x: (B, L, H, P), of dtype float32, bfloat16 or float64; ``z``, and B and C (B, L, G, N), are alike.
        dt: (B, L, H), step sizes before bias and softplus, in float64 for float64, else float32, as is all that follows
            but B, C and z.
        A: (H,).
        B: Input matrix.
        C: Output matrix.
        D: (H, P).
        z: Gate, like ``x``.
        dt_bias: (H,).
        initial: State before the first step, (B, H, P, N).
        dt_softplus: Whether ``dt`` goes through softplus.
        reverse: Whether time runs from the last position to the first.

    Returns:
        Output like ``x``, dense, and the last state (B, H, P, N).
    """
    inputs = (x, dt, A, B, C, D, z, dt_bias, initial)
    return torch.ops.custom_networks.native_ssd_scan(*inputs, dt_softplus, reverse)
