"""The operators without loops over time, for exporters that know only plain tensor operations (ONNX).

A linear recurrence is computed by doubling: after k rounds every position holds what the last 2^k steps gave it. The
graph has a few nodes a round, log2(L) rounds. Two limits: L is fixed at export (the batch may vary), and selective_scan
holds several tensors of size (B, L, D, N). Backend ``reference`` runs this form while a model is exported.
"""

from __future__ import annotations

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
    """Selective scan by doubling."""
    dtype, groups = state_dtype(u.dtype), B.shape[1]
    rows, step_size = (x.to(dtype).transpose(1, 2) for x in (u, delta))
    step_size = step_size if delta_bias is None else step_size + delta_bias.to(dtype)
    step_size = F.softplus(step_size) if delta_softplus else step_size
    B, C = (x.to(dtype).permute(0, 3, 1, 2).unsqueeze(3) for x in (B, C))

    decay = torch.exp(step_size.unsqueeze(-1) * A.to(dtype))
    gain = (step_size * rows).unflatten(2, (groups, -1)).unsqueeze(-1) * B
    gain = gain.flatten(2, 3)
    if initial_state is not None:
        # What the state gives the first step is one more gain there.
        first = -1 if reverse else 0
        carried = (decay[:, first] * initial_state.to(dtype)).unsqueeze(1)
        rest = torch.zeros_like(gain[:, 1:])
        gain = gain + torch.cat((rest, carried) if reverse else (carried, rest), dim=1)
    states = _recur(decay, gain, reverse).unflatten(2, (groups, -1))
    y = (states * C).sum(-1).flatten(2)

    y = y if D is None else y + D.to(dtype) * rows
    y = y.transpose(1, 2)
    y = (y if z is None else y * F.silu(z.to(dtype))).to(u.dtype)
    return (y, states[:, 0 if reverse else -1].flatten(1, 2)) if return_last_state else y


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
    """SSD scan in chunks as matrix products, by doubling from chunk to chunk."""
    dtype, length, heads = state_dtype(x.dtype), x.shape[1], x.shape[2]
    steps = min(_CHUNK, length)
    dt = dt.to(dtype) if dt_bias is None else dt.to(dtype) + dt_bias.to(dtype)
    dt = F.softplus(dt) if dt_softplus else dt

    def chunked(v: Tensor) -> Tensor:
        """(B, L, H, ...) as (B, M, H, Q, ...), zeros behind the end."""
        v = F.pad(v, (0, 0) * (v.dim() - 2) + (0, -length % steps))
        return v.unflatten(1, (-1, steps)).transpose(2, 3)

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
        initial = torch.zeros_like(gain[:, 0])
    else:
        initial = initial_states.to(dtype)
    # The initial state is the gain of one more chunk, before all others.
    outside = torch.zeros_like(leaving[:, :1]), initial.unsqueeze(1)
    decay, gain = (
        torch.cat((inside, more) if reverse else (more, inside), dim=1)
        for more, inside in zip(outside, (leaving, gain), strict=True)
    )
    states = _recur(decay, gain, reverse)
    entering, final = (states[:, 1:], states[:, 0]) if reverse else (states[:, :-1], states[:, -1])
    y = torch.matmul(torch.matmul(C, B.mT) * between, dt_x) + from_start * torch.matmul(C, entering.mT)

    y = y.transpose(2, 3).flatten(1, 2)[:, :length]
    y = y if D is None else y + D.to(dtype).reshape(heads, -1) * x.to(dtype)
    y = (y if z is None else y * F.silu(z.to(dtype))).to(x.dtype)
    return (y, final) if return_final_states else y


def causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None, reverse: bool = False
) -> Tensor:
    """The framework's own depthwise convolution."""
    dtype, before = state_dtype(x.dtype), weight.shape[1] - 1
    taps = (weight.flip(1) if reverse else weight).to(dtype).unsqueeze(1)
    padded = F.pad(x.to(dtype), (0, before) if reverse else (before, 0))
    y = F.conv1d(padded, taps, None if bias is None else bias.to(dtype), groups=x.shape[1])
    return (y if activation is None else F.silu(y)).to(x.dtype)


def _recur(decay: Tensor, gain: Tensor, reverse: bool) -> Tensor:
    """``h[t] = decay[t] h[t - 1] + gain[t]`` along dimension 1, from zero."""
    reach, length = 1, gain.shape[1]
    while reach < length:
        # Padded in front and cut behind: the value `reach` steps earlier, zero where there is none.
        shift = (0, 0) * (gain.dim() - 2) + ((-reach, reach) if reverse else (reach, -reach))
        gain = gain + decay * F.pad(gain, shift)
        reach *= 2
        if reach < length:
            decay = decay * F.pad(decay, shift)
    return gain
