"""Backend ``native``: compiled operators for the CPU, built with the machine's C++ compiler when first needed.

See :mod:`custom_networks.ops._native_build` for what is built and where it is kept. A machine that cannot build them
is told so once, in the log, and works with the backend ``torch``.
"""

from __future__ import annotations

import importlib
import logging
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from custom_networks.ops._layout import in_memory_order_of, state_dtype
from custom_networks.ops._native_build import BuildError
from custom_networks.ops._native_causal_conv import MAX_WIDTH
from custom_networks.ops._native_causal_conv import causal_conv1d as _causal_conv1d
from custom_networks.ops._native_library import load
from custom_networks.ops._native_selective_scan import selective_scan as _selective_scan
from custom_networks.ops._native_ssd import ssd_scan as _ssd_scan

_log = logging.getLogger(__name__)


@cache
def is_available() -> tuple[bool, str]:
    """Whether the library is built, or can be; the build happens here. The reason is the compiler's or the system's."""
    try:
        library = load(torch.float32)
    except BuildError as error:
        _log.warning("the compiled CPU operators cannot be used, slower ones take their place: %s", error)
        return False, str(error)
    return True, f"compiled, {library.lanes} float32 lanes"


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
    """Selective scan of Mamba (Gu and Dao 2023), B and C as (B, G, N, L); also from an ``initial_state`` (B, D, N)."""
    state, streams = state_dtype(u.dtype), _stream_dtype(u, delta, B, C, z)
    parameters = [None if x is None else x.to(state) for x in (A, D, delta_bias, initial_state)]
    out, last_state = _selective_scan(
        u.transpose(1, 2).to(streams),
        delta.transpose(1, 2).to(streams),
        parameters[0],
        B.permute(0, 3, 1, 2).to(streams),
        C.permute(0, 3, 1, 2).to(streams),
        parameters[1],
        None if z is None else z.transpose(1, 2).to(streams),
        *parameters[2:],
        delta_softplus,
        reverse,
    )
    out = in_memory_order_of(out.transpose(1, 2), u)
    return (out, last_state) if return_last_state else out


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
    """State-space dual scan of Mamba-2 (Dao and Gu 2024), step after step; ``chunk_size`` plays no part."""
    state, streams = state_dtype(x.dtype), _stream_dtype(x, B, C, z)
    dt, A, D, dt_bias, initial_states = (
        None if v is None else v.to(state) for v in (dt, A, D, dt_bias, initial_states)
    )
    if D is not None and D.dim() == 1:
        D = D[:, None].expand(-1, x.shape[-1])
    x_, B, C, z = (None if v is None else v.to(streams) for v in (x, B, C, z))
    out, last_state = _ssd_scan(x_, dt, A, B, C, D, z, dt_bias, initial_states, dt_softplus, reverse)
    out = out.to(x.dtype)
    return (out, last_state) if return_final_states else out


def causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None, reverse: bool = False
) -> Tensor:
    """Depthwise convolution over the past (``reverse``: the future), with up to 16 taps; wider ones run in PyTorch."""
    if weight.shape[1] > MAX_WIDTH:
        return _torch().causal_conv1d(x, weight, bias, activation, reverse)
    state = state_dtype(x.dtype)
    bias = None if bias is None else bias.to(state)
    rows = x.transpose(1, 2).to(_stream_dtype(x))
    out = _causal_conv1d(rows, weight.to(state), bias, activation is not None, reverse)
    return in_memory_order_of(out.transpose(1, 2), x)


def _torch() -> ModuleType:
    """The backend that serves what this one does not."""
    return importlib.import_module("custom_networks.ops._torch")


def _stream_dtype(first: Tensor, *others: Tensor | None) -> torch.dtype:
    """Type in which the long tensors are read: bfloat16 if all are, else that of the state."""
    if all(x is None or x.dtype == torch.bfloat16 for x in (first, *others)):
        return torch.bfloat16
    return state_dtype(first.dtype)
