"""The three operators: what they compute, what they accept, and clear errors for what they do not."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from custom_networks.ops._checks import check_floating, check_not_empty, check_rank, check_shape
from custom_networks.ops._layout import in_memory_order_of, state_dtype
from custom_networks.ops.backend import resolve


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
    """Selective scan of Mamba: a diagonal linear recurrence whose coefficients depend on the input.

    With ``d = softplus(delta + delta_bias)``, from ``h = initial_state`` (zeros if absent)::

        h[t] = exp(d[t] A) h[t - 1] + d[t] B[t] u[t]
        y[t] = (C[t] h[t] + D u[t]) silu(z[t])

    State and sums are float32 whatever the input dtype (float64 for float64), under autocast too.

    Args:
        u: Input, (B, D, L). A transposed view of (B, L, D) memory is the fast case and is never copied.
        delta: Step sizes before bias and softplus, (B, D, L).
        A: State matrix (diagonal a channel), (D, N), negative in practice.
        B: Input matrix: (B, N, L), or (B, G, N, L) with G dividing D, or constant (D, N).
        C: Output matrix, in one of the shapes of ``B``.
        D: Weight of the skip connection, (D,).
        z: Gate, (B, D, L).
        delta_bias: Added to ``delta``, (D,).
        delta_softplus: Whether ``delta`` goes through softplus.
        return_last_state: Whether the state after the last step is returned too; it is differentiable.
        reverse: Time runs from the last position to the first (anti-causal); the last state is that at position 0.
        initial_state: State before the first step (with ``reverse``, after the last position), (B, D, N).

    Returns:
        y, (B, D, L), in the dtype and memory order of ``u``; with ``return_last_state`` also the state (B, D, N) in
        float32 (float64 for float64).

    Raises:
        ValueError: A shape does not fit, or is empty; tensors are on different devices.
        TypeError: A tensor is not of real floating dtype.

    Source: Mamba, Gu and Dao 2023, section 3; argument meaning of mamba-ssm's ``selective_scan_fn``. Deviations:
        ``reverse``; an initial state and a differentiable last one; no complex A.
    """
    check_floating(u=u, delta=delta, A=A, B=B, C=C, D=D, z=z, delta_bias=delta_bias, initial_state=initial_state)
    check_rank("u", u, 3, "(B, D, L)")
    batch, channels, length = u.shape
    check_rank("A", A, 2, "(D, N)")
    states = A.shape[1]
    check_shape("A", A, (channels, states), "(D, N)")
    for name, value in (("delta", delta), ("z", z)):
        check_shape(name, value, (batch, channels, length), "(B, D, L)")
    for name, value in (("D", D), ("delta_bias", delta_bias)):
        check_shape(name, value, (channels,), "(D,)")
    check_shape("initial_state", initial_state, (batch, channels, states), "(B, D, N)")
    check_not_empty(D=channels, L=length, N=states)
    B = _grouped("B", B, batch, channels, states, length)
    C = _grouped("C", C, batch, channels, states, length)
    if B.shape[1] != C.shape[1]:
        if channels not in (B.shape[1], C.shape[1]):
            raise ValueError(f"B has {B.shape[1]} groups, C has {C.shape[1]}")
        B, C = (matrix.repeat_interleave(channels // matrix.shape[1], dim=1) for matrix in (B, C))
    run = resolve("selective_scan", u.device.type)
    return run(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state, reverse, initial_state)


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
    dt_limit: tuple[float, float] = (-math.inf, math.inf),
) -> Tensor | tuple[Tensor, Tensor]:
    """State-space dual scan of Mamba-2: one scalar decay a head, a P x N matrix as state.

    With ``d = softplus(dt + dt_bias)``, cut to ``dt_limit``, from ``S = initial_states`` (zeros if absent)::

        S[t] = exp(d[t] A) S[t - 1] + d[t] x[t] B[t]^T
        y[t] = (S[t] C[t] + D x[t]) silu(z[t])

    State and sums are float32 whatever the input dtype (float64 for float64), under autocast too.

    Args:
        x: Input, (B, L, H, P).
        dt: Step sizes before bias and softplus, (B, L, H).
        A: Decay rates, (H,), negative in practice.
        B: Input matrix, (B, L, G, N) with G dividing H.
        C: Output matrix, (B, L, G, N).
        chunk_size: Steps that a backend may take together. A hint: it changes speed and memory, not the result, and
            backends may take fewer.
        D: Weight of the skip connection, (H,) or (H, P).
        z: Gate, (B, L, H, P).
        dt_bias: Added to ``dt``, (H,).
        dt_softplus: Whether ``dt`` goes through softplus.
        initial_states: State before the first step, (B, H, P, N).
        return_final_states: Whether the state after the last step is returned too; it is differentiable.
        reverse: Time runs from the last position to the first (anti-causal): ``initial_states`` is the state after the
            last position, the final state that at position 0.
        dt_limit: Smallest and largest step size; no gradient reaches a step that was cut.

    Returns:
        y, (B, L, H, P), in the dtype of ``x``; with ``return_final_states`` also the state (B, H, P, N) in float32
        (float64 for float64).

    Raises:
        ValueError: A shape does not fit, or is empty; ``chunk_size`` is not positive; ``dt_limit`` is no range; tensors
            are on different devices.
        TypeError: A tensor is not of real floating dtype.

    Source: Mamba-2, Dao and Gu 2024, section 6; argument meaning of mamba-ssm's ``mamba_chunk_scan_combined``.
        Deviations: ``reverse``; a default ``chunk_size``.
    """
    check_floating(x=x, dt=dt, A=A, B=B, C=C, D=D, z=z, dt_bias=dt_bias, initial_states=initial_states)
    check_rank("x", x, 4, "(B, L, H, P)")
    batch, length, heads, width = x.shape
    check_rank("B", B, 4, "(B, L, G, N)")
    groups, states = B.shape[2:]
    check_not_empty(L=length, H=heads, P=width, G=groups, N=states)
    for name, value in (("B", B), ("C", C)):
        check_shape(name, value, (batch, length, groups, states), "(B, L, G, N)")
    if heads % groups:
        raise ValueError(f"B: {groups} groups do not divide {heads} heads")
    check_shape("dt", dt, (batch, length, heads), "(B, L, H)")
    for name, value in (("A", A), ("dt_bias", dt_bias)):
        check_shape(name, value, (heads,), "(H,)")
    if D is not None and D.dim() == 1:
        check_shape("D", D, (heads,), "(H,) or (H, P)")
    else:
        check_shape("D", D, (heads, width), "(H,) or (H, P)")
    check_shape("z", z, (batch, length, heads, width), "(B, L, H, P)")
    check_shape("initial_states", initial_states, (batch, heads, width, states), "(B, H, P, N)")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    low, high = dt_limit
    if not low < high:
        raise ValueError(f"dt_limit must be (low, high) with low < high, got {dt_limit}")
    if high < math.inf or low > (0 if dt_softplus else -math.inf):
        # Steps are few beside x, one a head: they are made here, and every backend gets them ready.
        with torch.autocast(dt.device.type, enabled=False):
            dt = dt.to(state_dtype(x.dtype))
            dt = dt if dt_bias is None else dt + dt_bias.to(dt.dtype)
            dt = (F.softplus(dt) if dt_softplus else dt).clamp(low, high)
        dt_bias, dt_softplus = None, False
    run = resolve("ssd_scan", x.device.type)
    return run(x, dt, A, B, C, chunk_size, D, z, dt_bias, dt_softplus, initial_states, return_final_states, reverse)


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    reverse: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Depthwise convolution over time that sees only the past, with optional SiLU.

    ``y[t] = act(bias + sum_k weight[:, k] x[t - W + 1 + k])``, from zeros or ``initial_state`` before the sequence.

    Args:
        x: Input, (B, D, L). A transposed view of (B, L, D) memory is the fast case and is never copied.
        weight: Taps, (D, W); the last one meets the present.
        bias: (D,).
        activation: None, ``"silu"`` or its other name ``"swish"``.
        reverse: The mirrored operator, which sees only the future: ``x[t + W - 1 - k]``.
        initial_state: The W - 1 inputs before the sequence (with ``reverse``, those behind it) in the order of their
            positions, (B, D, W - 1).
        return_final_state: Whether the state from which the sequence could be continued is returned too: the last W - 1
            inputs (with ``reverse``, the first), (B, D, W - 1).

    Returns:
        y, (B, D, L), in the dtype and memory order of ``x``; sums are float32 (float64 for float64). With
        ``return_final_state`` also the state in the dtype of ``x``.

    Raises:
        ValueError: A shape does not fit, or is empty; tensors are on different devices; the activation is unknown.
        TypeError: A tensor is not of real floating dtype.

    Source: Mamba, Gu and Dao 2023, section 3.4; argument meaning of ``causal_conv1d_fn``. Deviation: ``reverse``.
    """
    check_floating(x=x, weight=weight, bias=bias, initial_state=initial_state)
    check_rank("x", x, 3, "(B, D, L)")
    channels = x.shape[1]
    check_rank("weight", weight, 2, "(D, W)")
    check_shape("weight", weight, (channels, weight.shape[1]), "(D, W)")
    check_shape("bias", bias, (channels,), "(D,)")
    check_not_empty(D=channels, L=x.shape[2], W=weight.shape[1])
    if activation not in (None, "silu", "swish"):
        raise ValueError(f"activation must be None, 'silu' or 'swish', got {activation!r}")
    run = resolve("causal_conv1d", x.device.type)
    context = weight.shape[1] - 1
    if initial_state is None and not return_final_state:
        return run(x, weight, bias, activation, reverse)
    check_shape("initial_state", initial_state, (x.shape[0], channels, context), "(B, D, W - 1)")
    if initial_state is None:
        initial_state = x.new_zeros(x.shape[0], channels, context)
    # Only sequences worked on piece by piece come here: one copy is cheaper than another argument of every backend.
    pieces = (x, initial_state.to(x.dtype)) if reverse else (initial_state.to(x.dtype), x)
    rows = torch.cat([piece.transpose(1, 2) for piece in pieces], dim=1)
    y = run(rows.transpose(1, 2), weight, bias, activation, reverse).transpose(1, 2)
    length = x.shape[2]
    y = in_memory_order_of((y[:, :length] if reverse else y[:, context:]).transpose(1, 2), x)
    final = rows[:, :context] if reverse else rows[:, length:]
    return (y, final.transpose(1, 2)) if return_final_state else y


def _grouped(name: str, matrix: Tensor, batch: int, channels: int, states: int, length: int) -> Tensor:
    """An input or output matrix as (B, G, N, L), without a copy."""
    if matrix.dim() == 2:
        check_shape(name, matrix, (channels, states), "(D, N)")
        return matrix[None, :, :, None].expand(batch, -1, -1, length)
    if matrix.dim() == 3:
        matrix = matrix[:, None]
    check_rank(name, matrix, 4, "(B, N, L), (B, G, N, L) or (D, N)")
    groups = matrix.shape[1]
    check_shape(name, matrix, (batch, groups, states, length), "(B, G, N, L)")
    if groups == 0 or channels % groups:
        raise ValueError(f"{name}: {groups} groups do not divide {channels} channels")
    return matrix
