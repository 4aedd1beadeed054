"""Which implementation computes an operator: chosen by device and by what is installed, or by the user.

A backend is a module that offers ``is_available() -> (bool, reason)`` and any of ``selective_scan``, ``ssd_scan`` and
``causal_conv1d`` with the signatures of :mod:`custom_networks.ops.functional`, and possibly ``mamba_inner`` and
``bidirectional_mamba_inner`` as :mod:`custom_networks.ops._mamba_inner` makes them. What reaches it has been checked:

- ``selective_scan`` gets B and C as (B, G, N, L), never (B, N, L) or constant;
- all tensors are on one device and of floating dtype, float16 and float64 included; dtypes may differ from each other;
- (B, D, L) tensors may have any strides; results have the dtype and the memory order of u or x;
- ``dt_limit`` of ``ssd_scan`` and the states of ``causal_conv1d`` have been taken care of.

``auto`` passes over a backend that lacks an operator. Modules are imported when they are first needed, those of
``native`` and ``torch`` with the package, so that programs exported with them can be loaded; the rest need
``set_backend`` first.

Export: ``torch.export`` sees one opaque node an operator, except with ``reference``, which then is written out in plain
tensor operations and loops; so is ``auto`` on the way to ONNX, whose exporter knows nothing else.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import torch

from custom_networks.ops import _traceable

_log = logging.getLogger(__name__)

ENVIRONMENT_VARIABLE = "CUSTOM_NETWORKS_BACKEND"


@dataclass(frozen=True)
class Backend:
    """Where a backend lives, which devices it serves, and what to do when it is missing."""

    module: str
    devices: tuple[str, ...] | None
    remedy: str


# Triton's interpreter, switched on before the kernels are defined, runs them on CPU tensors, for tests.
_TRITON = ("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)

BACKENDS = {
    "reference": Backend("custom_networks.ops._reference", None, ""),
    "native": Backend("custom_networks.ops._native", ("cpu",), "install a C++ compiler (g++ or clang++)"),
    "torch": Backend("custom_networks.ops._torch", None, ""),
    "triton": Backend("custom_networks.ops._triton", _TRITON, "pip install triton, on a machine with a CUDA device"),
    "mamba_ssm": Backend(
        "custom_networks.ops._mamba_ssm", ("cuda",), "pip install mamba-ssm causal-conv1d, with the CUDA compiler"
    ),
}

_AUTO = {"cpu": ("native", "torch", "reference"), "cuda": ("triton", "torch", "reference")}
_AUTO_ELSEWHERE = ("torch", "reference")

_selected = os.environ.get(ENVIRONMENT_VARIABLE, "auto")


def set_backend(name: str) -> None:
    """Chooses the backend of all operators for this process.

    Args:
        name: ``auto`` (by device and by what is installed), ``reference`` (slow, obvious), ``native`` (compiled, CPU),
            ``torch`` (plain PyTorch, everywhere), ``triton`` or ``mamba_ssm`` (CUDA). The environment variable
            ``CUSTOM_NETWORKS_BACKEND`` sets the choice at start.

    Raises:
        ValueError: The name is none of these.
        RuntimeError: The backend cannot be used here; the message names the remedy.
    """
    global _selected
    _check_name(name)
    if name != "auto":
        _require(name)
    _selected = name


@contextmanager
def using_backend(name: str) -> Iterator[None]:
    """Chooses the backend of all operators for a ``with`` block; arguments and errors as of :func:`set_backend`."""
    global _selected
    before = _selected
    set_backend(name)
    try:
        yield
    finally:
        _selected = before


def backend_info() -> dict[str, object]:
    """What is selected, what ``auto`` means per device, and which backends can be used and why not.

    Asking may import or build backends.
    """
    available = {name: availability(name) for name in BACKENDS}
    return {
        "selected": _selected,
        "auto": {device: next(name for name in order if available[name][0]) for device, order in _AUTO.items()},
        "available": {name: usable for name, (usable, _) in available.items()},
        "reason": {name: reason for name, (_, reason) in available.items()},
    }


def resolve(operator: str, device_type: str) -> Callable:
    """The function that computes ``operator`` for tensors on ``device_type``.

    Raises:
        ValueError: The environment variable names no backend.
        RuntimeError: The selected backend is unavailable, does not serve this device or lacks this operator.
    """
    to_onnx, exporting = _in_onnx_export(), torch.compiler.is_exporting()
    if (to_onnx and _selected in ("auto", "reference")) or (exporting and _selected == "reference"):
        return getattr(_traceable, operator)
    name = _choose(_selected, operator, device_type)
    return getattr(sys.modules[BACKENDS[name].module], operator)


def resolve_beside(operator: str, main: str, device_type: str) -> Callable | None:
    """``operator`` of the backend that computes ``main``.

    None if that backend lacks it, and while a program is exported: exporters are given the parts.

    Raises:
        As :func:`resolve`.
    """
    if _in_onnx_export() or torch.compiler.is_exporting():
        return None
    name = _choose(_selected, main, device_type)
    return getattr(sys.modules[BACKENDS[name].module], operator, None)


def _in_onnx_export() -> bool:
    # The attribute imports the exporter, which takes longer than everything else in a first call.
    return "torch.onnx" in sys.modules and torch.onnx.is_in_onnx_export()


def _choose(selected: str, operator: str, device_type: str) -> str:
    return _find(selected, operator, device_type)


# What torch.compiler.assume_constant_result sets, without its import of the compiler: tracing does not look inside.
_choose._dynamo_marked_constant = True


@cache
def _find(selected: str, operator: str, device_type: str) -> str:
    _check_name(selected)
    if selected == "auto":
        name = next(n for n in _AUTO.get(device_type, _AUTO_ELSEWHERE) if offers(n, operator))
    else:
        name = selected
        devices = BACKENDS[name].devices
        if devices is not None and device_type not in devices:
            raise RuntimeError(f"backend {name!r} serves {', '.join(devices)} tensors, got {device_type}")
        _require(name)
        if not offers(name, operator):
            raise RuntimeError(f"backend {name!r} has no {operator}; set_backend('auto') finds one that has")
    _log.info("%s on %s runs on backend %r (%s)", operator, device_type, name, selected)
    return name


def _check_name(name: str) -> None:
    if name not in ("auto", *BACKENDS):
        raise ValueError(f"unknown backend {name!r}; choose from auto, {', '.join(BACKENDS)}")


def _require(name: str) -> None:
    usable, reason = availability(name)
    if not usable:
        raise RuntimeError(f"backend {name!r} cannot be used: {reason}; remedy: {BACKENDS[name].remedy}")


def offers(name: str, operator: str) -> bool:
    """Whether a backend can be used here and has ``operator``."""
    return availability(name)[0] and hasattr(_module(name), operator)


@cache
def availability(name: str) -> tuple[bool, str]:
    """Whether a backend can be used here, and why or why not."""
    try:
        return _module(name).is_available()
    except ImportError as error:
        return False, str(error)


def _module(name: str) -> ModuleType:
    return importlib.import_module(BACKENDS[name].module)
