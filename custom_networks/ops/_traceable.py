"""The operators for exporters that know only plain tensor operations (ONNX).

The recurrence over time becomes one loop in the exported graph: ``scan`` of PyTorch's control flow, which ONNX has as
its operator ``Scan``. The graph does not grow with L, and L may vary. selective_scan loops over steps, ssd_scan over
chunks of them, with matrix products inside a chunk. Backend ``reference`` runs this form while a model is exported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from custom_networks.ops._layout import state_dtype

_CHUNK = 64


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    reverse: bool = False,
    initial_state: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Selective scan, one step of time after the other."""
    dtype, groups, states = state_dtype(u.dtype), B.shape[1], A.shape[1]
    rows, step_size = (x.to(dtype).permute(2, 0, 1) for x in (u, delta))
    step_size = step_size if delta_bias is None else step_size + delta_bias.to(dtype)
    step_size = F.softplus(step_size) if delta_softplus else step_size
    # Channels as groups and channels of a group: (B, G, D / G, N) is the state, one time step of B and C fits it.
    by_time = [x.unflatten(2, (groups, -1)) for x in (step_size, step_size * rows)]
    by_time += [x.to(dtype).permute(3, 0, 1, 2) for x in (B, C)]
    shape = (u.shape[0], groups, -1, states)
    if initial_state is None:
        state = rows.new_zeros(u.shape[0], groups, u.shape[1] // groups, states)
    else:
        state = initial_state.to(dtype).reshape(shape)
    state, y = _over_time(_selective_step, state, by_time, (A.to(dtype).reshape(shape[1:]),), reverse)

    y = y.flatten(2)
    y = (y if D is None else y + D.to(dtype) * rows).permute(1, 2, 0)
    y = (y if z is None else y * F.silu(z.to(dtype))).to(u.dtype)
    return (y, state.flatten(1, 2)) if return_last_state else y


def ssd_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int = 64,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    reverse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """SSD scan in chunks as matrix products, one chunk after the other."""
    dtype, length, heads = state_dtype(x.dtype), x.shape[1], x.shape[2]
    # A length that may vary gets an empty chunk more than it needs: the exporter takes a number that can be 1 for 1.
    steps = min(_CHUNK, length) if isinstance(length, int) else _CHUNK
    chunks = (length + steps - 1) // steps + (not isinstance(length, int))
    dt = dt.to(dtype) if dt_bias is None else dt.to(dtype) + dt_bias.to(dtype)
    dt = F.softplus(dt) if dt_softplus else dt

    def chunked(v: Tensor) -> Tensor:
        """(B, L, H, ...) as (M, B, H, Q, ...), zeros behind the end."""
        v = F.pad(v, (0, 0) * (v.dim() - 2) + (0, chunks * steps - length))
        return v.reshape(v.shape[0], chunks, steps, *v.shape[2:]).transpose(2, 3).transpose(0, 1)

    B, C = (chunked(v.to(dtype).repeat_interleave(heads // v.shape[2], dim=2)) for v in (B, C))
    dt_x = chunked(dt.unsqueeze(-1) * x.to(dtype))
    log_decay = chunked(dt.double() * A.double())
    total = log_decay.cumsum(-1)
    whole = total[..., -1:]
    if reverse:
        total = whole - total + log_decay
    order = torch.ones(steps, steps, dtype=torch.bool, device=x.device)
    order = order.triu() if reverse else order.tril()
    between = (total.unsqueeze(-1) - total.unsqueeze(-2)).masked_fill(~order, -torch.inf).to(dtype).exp()
    from_start, to_end = (v.to(dtype).exp().unsqueeze(-1) for v in (total, whole - total))

    gain = torch.matmul((to_end * dt_x).mT, B)
    leaving = whole.to(dtype).exp().unsqueeze(-1)
    if initial_states is None:
        state = x.new_zeros(x.shape[0], heads, x.shape[3], B.shape[-1], dtype=dtype)
    else:
        state = initial_states.to(dtype)
    state, outside = _over_time(_chunk_step, state, [leaving, gain, from_start * C], (), reverse)
    y = torch.matmul(torch.matmul(C, B.mT) * between, dt_x) + outside

    y = y.transpose(0, 1).transpose(2, 3).flatten(1, 2)[:, :length]
    y = y if D is None else y + D.to(dtype).reshape(heads, -1) * x.to(dtype)
    y = (y if z is None else y * F.silu(z.to(dtype))).to(x.dtype)
    return (y, state) if return_final_states else y


def causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None, reverse: bool = False
) -> Tensor:
    """The framework's own depthwise convolution."""
    dtype, before = state_dtype(x.dtype), weight.shape[1] - 1
    taps = (weight.flip(1) if reverse else weight).to(dtype).unsqueeze(1)
    padded = F.pad(x.to(dtype), (0, before) if reverse else (before, 0))
    y = F.conv1d(padded, taps, None if bias is None else bias.to(dtype), groups=x.shape[1])
    return (y if activation is None else F.silu(y)).to(x.dtype)


def _selective_step(state: Tensor, delta: Tensor, gain: Tensor, B: Tensor, C: Tensor, A: Tensor) -> list[Tensor]:
    """One step of the selective scan: the next state and what C reads from it."""
    state = torch.exp(delta.unsqueeze(-1) * A) * state + gain.unsqueeze(-1) * B.unsqueeze(2)
    return [state, (state * C.unsqueeze(2)).sum(-1)]


def _chunk_step(state: Tensor, leaving: Tensor, gain: Tensor, C: Tensor) -> list[Tensor]:
    """One chunk of the SSD scan: the state behind it, and what C reads from the state before it."""
    return [leaving * state + gain, torch.matmul(C, state.mT)]


def _over_time(
    step: Callable, state: Tensor, by_time: Sequence[Tensor], constants: tuple[Tensor, ...], reverse: bool
) -> tuple[Tensor, Tensor]:
    """Runs ``step`` along the first axis of ``by_time``: the last state, and what each step gave, stacked."""
    by_time = [x.flip(0) for x in by_time] if reverse else list(by_time)
    if torch.compiler.is_exporting():
        from torch._higher_order_ops.scan import scan_op

        if not torch.is_grad_enabled() or torch.onnx.is_in_onnx_export():
            # A pass of the ONNX exporter runs the graph once more and does not get through the loop's backward pass.
            state, *by_time = (x.detach() for x in (state, *by_time))
            constants = tuple(x.detach() for x in constants)
        state, given = scan_op(step, [state], by_time, constants)
    else:
        steps = []
        for now in zip(*(x.unbind() for x in by_time), strict=True):
            state, y = step(state, *now, *constants)
            steps.append(y)
        given = torch.stack(steps)
    return state, given.flip(0) if reverse else given
