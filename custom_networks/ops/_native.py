"""Backend ``native``: compiled operators for the CPU, built with the machine's C++ compiler when first needed.

See :mod:`custom_networks.ops._native_build` for what is built and where it is kept. A machine that cannot build them
is told so once, in the log, and works with the backend ``torch``.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

from custom_networks.ops import _native_causal_conv, _native_selective_scan, _native_ssd, _reference, _torch
from custom_networks.ops._mamba_inner import Kernels, define_bidirectional_mamba_inner, define_mamba_inner
from custom_networks.ops._native_build import BuildError
from custom_networks.ops._native_library import load
from custom_networks.ops._operators import define_causal_conv1d, define_selective_scan, define_ssd_scan

_log = logging.getLogger(__name__)

_selective_scan = define_selective_scan(
    "native", _native_selective_scan.forward, _native_selective_scan.backward, _native_selective_scan.states_shape
)
_ssd_scan = define_ssd_scan("native", _native_ssd.forward, _native_ssd.backward, _native_ssd.states_shape)
_causal_conv1d = define_causal_conv1d("native", _native_causal_conv.forward, _native_causal_conv.backward)

_kernels = Kernels(
    _native_causal_conv.forward,
    _native_causal_conv.backward,
    _native_selective_scan.forward,
    _native_selective_scan.backward,
    _native_selective_scan.states_shape,
)
_mamba_inner = define_mamba_inner("native", _kernels)
_bidirectional_mamba_inner = define_bidirectional_mamba_inner("native", _kernels)


def is_available() -> tuple[bool, str]:
    """Whether the library for float32 and bfloat16 is built, or can be; the build happens here."""
    return _usable(torch.float32)


def selective_scan(u: Tensor, *arguments: object, **options: object) -> Tensor | tuple[Tensor, Tensor]:
    """Selective scan of Mamba (Gu and Dao 2023); signature of :func:`custom_networks.ops.selective_scan`."""
    return (_selective_scan if _serves(u) else _torch.selective_scan)(u, *arguments, **options)


def ssd_scan(x: Tensor, *arguments: object, **options: object) -> Tensor | tuple[Tensor, Tensor]:
    """State-space dual scan of Mamba-2 (Dao and Gu 2024); signature of :func:`custom_networks.ops.ssd_scan`."""
    return (_ssd_scan if _serves(x) else _torch.ssd_scan)(x, *arguments, **options)


def causal_conv1d(x: Tensor, weight: Tensor, *arguments: object, **options: object) -> Tensor:
    """Depthwise causal convolution; signature of :func:`custom_networks.ops.causal_conv1d`.

    More than 16 taps run in PyTorch.
    """
    served = _serves(x) and weight.shape[1] <= _native_causal_conv.MAX_WIDTH
    return (_causal_conv1d if served else _torch.causal_conv1d)(x, weight, *arguments, **options)


def mamba_inner(xz: Tensor, weights: tuple, reverse: bool) -> Tensor:
    """Inside of a Mamba mixer; see :func:`custom_networks.ops.mamba_inner`."""
    served = _serves(xz) and weights[0].shape[1] <= _native_causal_conv.MAX_WIDTH
    return (_mamba_inner if served else _torch.mamba_inner)(xz, weights, reverse)


def bidirectional_mamba_inner(xz: Tensor, weights: tuple, weights_reverse: tuple) -> Tensor:
    """Inside of a Mamba mixer of two directions; see :func:`custom_networks.ops.bidirectional_mamba_inner`."""
    widths = [direction[0].shape[1] for direction in (weights, weights_reverse)]
    served = _serves(xz) and max(widths) <= _native_causal_conv.MAX_WIDTH
    return (_bidirectional_mamba_inner if served else _torch.bidirectional_mamba_inner)(xz, weights, weights_reverse)


def _serves(x: Tensor) -> bool:
    """Whether there is a library for the dtype; that for float64 is built when first needed."""
    return x.dtype != torch.float64 or _double_usable()


def _double_usable() -> bool:
    return _usable(torch.float64)[0]


# Tracing takes the answer as it is instead of looking inside.
_double_usable._dynamo_marked_constant = True


@cache
def _usable(dtype: torch.dtype) -> tuple[bool, str]:
    try:
        library = load(dtype)
        # The first call may come while a network is traced, when tensors have no data. Tracing is a matter of the
        # thread, so another one computes with real numbers.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(_check_numbers, dtype).result()
    except BuildError as error:
        _log.warning("the compiled %s operators cannot be used, slower ones take their place: %s", dtype, error)
        return False, str(error)
    return True, f"compiled, {library.lanes} lanes of {dtype}"


@torch.no_grad()
def _check_numbers(dtype: torch.dtype) -> None:
    """Compares a small call of each function with the reference.

    Raises:
        BuildError: They differ: the compiler or the processor does something unforeseen.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    channels, length, states = 19, 67, 5
    u, delta, z = normal(3, 1, channels, length).unbind()
    B, C = normal(2, 1, 1, states, length).unbind()
    A, D, bias, taps = -normal(channels, states).abs(), normal(channels), normal(channels), normal(channels, 4)
    u_, delta_, z_, B_, C_ = (x.movedim(-1, 1) for x in (u, delta, z, B, C))
    x, dt, a = u_[..., None, :], delta_[..., :1], A[0, :1]
    pairs = {
        "selective_scan": (
            _native_selective_scan.forward(u_, delta_, A, B_, C_, D, z_, bias, None, True, False, False)[0].mT,
            _reference.selective_scan(u, delta, A, B, C, D, z, bias, True),
        ),
        "ssd_scan": (
            _native_ssd.forward(x, dt, a, B_, C_, None, None, None, None, True, True, 64, False)[0],
            _reference.ssd_scan(x, dt, a, B_, C_, 64, dt_softplus=True, reverse=True),
        ),
        "causal_conv1d": (
            _native_causal_conv.forward(u_, taps, bias, True, False).mT,
            _reference.causal_conv1d(u, taps, bias, "silu"),
        ),
    }
    for name, (ours, expected) in pairs.items():
        if not torch.allclose(ours, expected, rtol=1e-4, atol=1e-4):
            raise BuildError(f"{name} of the compiled library gives wrong numbers on this machine")
