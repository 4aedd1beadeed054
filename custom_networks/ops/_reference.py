"""The operators written as their recurrences: one loop over time, autograd does the rest.

Slow and obvious on purpose: every other backend is tested against this one. Time steps are taken apart once by
``unbind``; indexing inside the loop would make the backward pass quadratic in L.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from custom_networks.ops._layout import in_memory_order_of, state_dtype


def is_available() -> tuple[bool, str]:
    """Always available."""
    return True, "always"


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
    """Selective scan of Mamba (Gu and Dao 2023, eq. 2 and algorithm 2), step by step."""
    dtype = state_dtype(u.dtype)
    per_group = u.shape[1] // B.shape[1]
    u_, A = u.to(dtype), A.to(dtype)
    delta = _step_size(delta.to(dtype), None if delta_bias is None else delta_bias.to(dtype)[:, None], delta_softplus)
    steps = [x.to(dtype).unbind(-1) for x in (delta, delta * u_, B, C)]

    if initial_state is None:
        state = u_.new_zeros(u.shape[0], u.shape[1], A.shape[1])
    else:
        state = initial_state.to(dtype)
    outputs = []
    for delta_t, delta_u_t, B_t, C_t in _in_order(zip(*steps, strict=True), reverse):
        B_t, C_t = (x.repeat_interleave(per_group, dim=1) for x in (B_t, C_t))
        state = torch.exp(delta_t[..., None] * A) * state + delta_u_t[..., None] * B_t
        outputs.append((state * C_t).sum(-1))
    y = torch.stack(outputs[::-1] if reverse else outputs, dim=-1)

    if D is not None:
        y = y + D.to(dtype)[:, None] * u_
    if z is not None:
        y = y * F.silu(z.to(dtype))
    y = in_memory_order_of(y, u)
    return (y, state) if return_last_state else y


def ssd_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    reverse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """State-space dual scan of Mamba-2 (Dao and Gu 2024), step by step; ``chunk_size`` plays no part."""
    dtype = state_dtype(x.dtype)
    heads_per_group = x.shape[2] // B.shape[2]
    x_ = x.to(dtype)
    dt = _step_size(dt.to(dtype), None if dt_bias is None else dt_bias.to(dtype), dt_softplus)
    steps = [v.to(dtype).unbind(1) for v in (torch.exp(dt * A.to(dtype)), dt[..., None] * x_, B, C)]

    if initial_states is None:
        state = x_.new_zeros(x.shape[0], *x.shape[2:], B.shape[-1])
    else:
        state = initial_states.to(dtype)
    outputs = []
    for decay_t, dt_x_t, B_t, C_t in _in_order(zip(*steps, strict=True), reverse):
        B_t, C_t = (v.repeat_interleave(heads_per_group, dim=1)[:, :, None, :] for v in (B_t, C_t))
        state = decay_t[..., None, None] * state + dt_x_t[..., None] * B_t
        outputs.append((state * C_t).sum(-1))
    y = torch.stack(outputs[::-1] if reverse else outputs, dim=1)

    if D is not None:
        y = y + (D if D.dim() == 2 else D[:, None]).to(dtype) * x_
    if z is not None:
        y = y * F.silu(z.to(dtype))
    y = y.to(x.dtype)
    return (y, state) if return_final_states else y


def causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None, reverse: bool = False
) -> Tensor:
    """Depthwise convolution that sees only the past (``reverse``: only the future), tap by tap."""
    dtype = state_dtype(x.dtype)
    width, length = weight.shape[1], x.shape[2]
    padded = F.pad(x.to(dtype), (0, width - 1) if reverse else (width - 1, 0))
    taps = weight.to(dtype).flip(1) if reverse else weight.to(dtype)
    y = sum(taps[:, k, None] * padded[:, :, k : k + length] for k in range(width))
    if bias is not None:
        y = y + bias.to(dtype)[:, None]
    if activation is not None:
        y = F.silu(y)
    return in_memory_order_of(y, x)


def _step_size(raw: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    """Discretisation step: bias added, then made positive."""
    raw = raw if bias is None else raw + bias
    return F.softplus(raw) if softplus else raw


def _in_order(steps: zip, reverse: bool) -> list[tuple[Tensor, ...]]:
    """Time steps in the order in which the recurrence runs through them."""
    return list(steps)[::-1] if reverse else list(steps)
