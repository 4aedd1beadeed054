"""Backend ``triton``: kernels for CUDA devices, compiled by Triton when first called.

The operators are registered when this module is imported; Triton itself is imported with the first call. Float64, and
what the kernels have no room for, run in PyTorch.

With ``TRITON_INTERPRET=1`` in the environment before the first call, Triton's interpreter runs the kernels on CPU
tensors, slowly, for tests.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable

import torch
from torch import Tensor

from custom_networks.ops import _torch
from custom_networks.ops._layout import is_channel_last
from custom_networks.ops._mamba_inner import Kernels, define_bidirectional_mamba_inner, define_mamba_inner
from custom_networks.ops._operators import (
    define_causal_conv1d,
    define_selective_scan,
    define_ssd_scan,
    register,
    wants_gradient,
)

# Steps of the chunks between which states are kept; the kernels take their number from here.
CHUNK = 64
_MAX_WIDTH = 8


def is_available() -> tuple[bool, str]:
    """Whether Triton is installed and there is a CUDA device, or its interpreter is switched on."""
    try:
        version = importlib.import_module("triton").__version__
    except ImportError as error:
        return False, str(error)
    if os.environ.get("TRITON_INTERPRET") == "1":
        return True, f"triton {version}, interpreted"
    if not torch.cuda.is_available():
        return False, "no CUDA device"
    return True, f"triton {version}"


def selective_scan(u: Tensor, *arguments: object, **options: object) -> Tensor | tuple[Tensor, Tensor]:
    """Selective scan of Mamba (Gu and Dao 2023); signature of :func:`custom_networks.ops.selective_scan`."""
    return (_selective_scan if _serves(u) else _torch.selective_scan)(u, *arguments, **options)


def ssd_scan(x: Tensor, *arguments: object, **options: object) -> Tensor | tuple[Tensor, Tensor]:
    """State-space dual scan of Mamba-2 (Dao and Gu 2024); signature of :func:`custom_networks.ops.ssd_scan`."""
    return (_ssd_scan if _serves(x) else _torch.ssd_scan)(x, *arguments, **options)


def causal_conv1d(x: Tensor, weight: Tensor, *arguments: object, **options: object) -> Tensor:
    """Depthwise causal convolution; signature of :func:`custom_networks.ops.causal_conv1d`.

    More than 8 taps run in PyTorch.
    """
    served = _serves(x) and weight.shape[1] <= _MAX_WIDTH
    return (_causal_conv1d if served else _torch.causal_conv1d)(x, weight, *arguments, **options)


def mamba_inner(xz: Tensor, weights: tuple, reverse: bool) -> Tensor:
    """Inside of a Mamba mixer; see :func:`custom_networks.ops.mamba_inner`."""
    served = _serves(xz) and weights[0].shape[1] <= _MAX_WIDTH
    return (_mamba_inner if served else _torch.mamba_inner)(xz, weights, reverse)


def bidirectional_mamba_inner(xz: Tensor, weights: tuple, weights_reverse: tuple) -> Tensor:
    """The same in both directions; see :func:`custom_networks.ops.bidirectional_mamba_inner`."""
    served = _serves(xz) and max(weights[0].shape[1], weights_reverse[0].shape[1]) <= _MAX_WIDTH
    return (_bidirectional if served else _torch.bidirectional_mamba_inner)(xz, weights, weights_reverse)


def bidirectional_selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> Tensor:
    """Both directions in one launch; see :func:`custom_networks.ops.bidirectional_selective_scan`."""
    if not _serves(u):
        ends = [[None if x is None else x[i] for x in (u, delta, A, B, C, D, z, delta_bias)] for i in range(2)]
        scans = [_torch.selective_scan(*end, delta_softplus, reverse=i == 1) for i, end in enumerate(ends)]
        return torch.stack(scans)
    rows, steps, gate = (None if x is None else x.transpose(2, 3) for x in (u, delta, z))
    tensors = rows, steps, A, B.permute(0, 1, 4, 2, 3), C.permute(0, 1, 4, 2, 3), D, gate, delta_bias
    out = _both_directions(*tensors, delta_softplus, wants_gradient(tensors))[0].transpose(2, 3)
    return out if is_channel_last(u[0]) else out.contiguous()


def _serves(x: Tensor) -> bool:
    return x.dtype != torch.float64


def _when_called(module: str, name: str) -> Callable:
    """A function of one of the kernels' modules, imported with the first call."""

    def call(*arguments: object) -> object:
        return getattr(importlib.import_module(f"custom_networks.ops.{module}"), name)(*arguments)

    return call


def _scan_states_shape(u: Tensor, A: Tensor, B: Tensor) -> tuple[int, ...]:
    return u.shape[0], -(-u.shape[1] // CHUNK), *A.shape


def _ssd_states_shape(x: Tensor, B: Tensor, chunk_size: int) -> tuple[int, ...]:
    return x.shape[0], -(-x.shape[1] // CHUNK), *x.shape[2:], B.shape[3]


def _fake_both(save_states: bool, u: Tensor, delta: Tensor, A: Tensor, *_: object) -> list[Tensor]:
    states = (2, *_scan_states_shape(u[0], A[0], u)) if save_states else (0,)
    return [u.new_empty(u.shape), u.new_empty(states, dtype=torch.float32)]


_kernels = [
    _when_called("_triton_causal_conv", "forward"),
    _when_called("_triton_causal_conv", "backward"),
    _when_called("_triton_selective_scan", "forward"),
    _when_called("_triton_selective_scan", "backward"),
    _scan_states_shape,
]
_causal_conv1d = define_causal_conv1d("triton", *_kernels[:2])
_selective_scan = define_selective_scan("triton", *_kernels[2:])
_mamba_inner = define_mamba_inner("triton", Kernels.that_return(*_kernels))
_bidirectional = define_bidirectional_mamba_inner("triton", Kernels.that_return(*_kernels))
_ssd_scan = define_ssd_scan(
    "triton", _when_called("_triton_ssd", "forward"), _when_called("_triton_ssd", "backward"), _ssd_states_shape
)
_both_directions = register(
    "triton_bidirectional_selective_scan",
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias",
    "bool delta_softplus",
    _fake_both,
    _when_called("_triton_selective_scan", "forward_both"),
    _when_called("_triton_selective_scan", "backward_both"),
    results=1,
    kept=1,
)
