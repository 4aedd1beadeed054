"""The backend ``mamba_ssm``: the CUDA kernels of the packages mamba-ssm and causal-conv1d, where they are installed.

Only on request. The kernels know one direction, so ``reverse`` flips inputs and output; they have no float64; the last
state of ``selective_scan`` is not differentiable, and its first one is zero (backend ``torch`` takes others); the
convolution is 2 to 4 wide.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import Tensor

from custom_networks.ops import _torch
from custom_networks.ops._layout import in_memory_order_of

_FUNCTIONS = {
    "selective_scan": ("mamba_ssm.ops.selective_scan_interface", "selective_scan_fn"),
    "ssd_scan": ("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined"),
    "causal_conv1d": ("causal_conv1d", "causal_conv1d_fn"),
}


def is_available() -> tuple[bool, str]:
    """Whether both packages import, which they do only with their CUDA extensions built."""
    for module, _ in _FUNCTIONS.values():
        try:
            importlib.import_module(module)
        except Exception as error:  # a broken installation fails with more than ImportError
            return False, f"import of {module} failed: {error}"
    return True, "installed"


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
    """Selective scan by ``selective_scan_fn``; that of backend ``torch`` from an initial state."""
    if initial_state is not None:
        return _torch.selective_scan(
            u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state, reverse, initial_state
        )
    delta, B, C, z = (None if x is None else x.to(u.dtype) for x in (delta, B, C, z))
    A, D, delta_bias = (None if x is None else x.float() for x in (A, D, delta_bias))
    rows, delta, B, C, z = _in_time((u, delta, B, C, z), -1, reverse)
    y, last = _function("selective_scan", u)(
        rows, delta, A, B, C, D=D, z=z, delta_bias=delta_bias, delta_softplus=delta_softplus, return_last_state=True
    )
    y = in_memory_order_of(y.flip(-1) if reverse else y, u)
    return (y, last) if return_last_state else y


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
    """SSD scan by ``mamba_chunk_scan_combined``; ``chunk_size`` must be a power of two."""
    B, C, z = (None if v is None else v.to(x.dtype) for v in (B, C, z))
    rows, dt, B, C, z = _in_time((x, dt, B, C, z), 1, reverse)
    y, final = _function("ssd_scan", x)(
        rows,
        dt,
        A.float(),
        B,
        C,
        chunk_size,
        D=D,
        z=z,
        dt_bias=dt_bias,
        initial_states=initial_states,
        dt_softplus=dt_softplus,
        return_final_states=True,
    )
    y = (y.flip(1) if reverse else y).to(x.dtype)
    return (y, final.float()) if return_final_states else y


def causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None, reverse: bool = False
) -> Tensor:
    """Depthwise causal convolution by ``causal_conv1d_fn``."""
    weight, bias = (None if v is None else v.to(x.dtype) for v in (weight, bias))
    (rows,) = _in_time((x,), -1, reverse)
    y = _function("causal_conv1d", x)(rows, weight, bias, activation=activation)
    return in_memory_order_of(y.flip(-1) if reverse else y, x)


def _function(operator: str, x: Tensor) -> Callable:
    if x.dtype == torch.float64:
        raise RuntimeError(f"backend 'mamba_ssm' has no {operator} for {x.dtype}; set_backend('torch') has")
    module, name = _FUNCTIONS[operator]
    return getattr(importlib.import_module(module), name)


def _in_time(tensors: tuple[Tensor | None, ...], dim: int, reverse: bool) -> list[Tensor | None]:
    return [x.flip(dim) if reverse and x is not None else x for x in tensors]
