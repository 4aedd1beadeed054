"""Loads the compiled operators and calls them: C structures, one library a precision, tensors as it reads them.

PyTorch is imported first, so that the library's OpenMP runtime resolves to the one PyTorch brought: one pool of
threads. Every call asks for the number of threads that PyTorch is set to. A process that was forked after work on
several threads must keep to one, as with PyTorch's own operators; loader workers do.
"""

from __future__ import annotations

import ctypes
import logging
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from custom_networks.ops import _native_build
from custom_networks.ops._layout import state_dtype

_log = logging.getLogger(__name__)

CHUNK = 64
# Below this many updates of a state a second thread costs more than it saves (about 50 microseconds of work).
_WORTH_A_THREAD = 1 << 18


def _structure(name: str, **fields: str) -> type[ctypes.Structure]:
    """A C structure of 8-byte fields, in the order given; keys begin with the type of the fields that they list."""
    kinds = {"int": ctypes.c_int64, "pointer": ctypes.c_void_p}
    layout = [(field, kinds[key.split("_")[0]]) for key, words in fields.items() for field in words.split()]
    return type(name, (ctypes.Structure,), {"_fields_": layout})


SelectiveScan = _structure(
    "SelectiveScan",
    int_sizes="batch length channels states groups softplus reverse accumulate threads slices segments",
    pointer_inputs="u delta z B C A D delta_bias initial_state",
    int_strides="u_batch u_time delta_batch delta_time z_batch z_time B_batch B_time B_group C_batch C_time C_group",
    pointer_outputs="out last_state chunk_states segment_states segment_steps",
)
SelectiveScanGradients = _structure(
    "SelectiveScanGradients",
    pointer_out="out",
    int_strides="out_batch out_time",
    pointer_rest="last_state u delta z A D delta_bias B C initial_state",
    int_places="z_batch z_time add_to_z",
)
CausalConv = _structure(
    "CausalConv",
    int_sizes="batch length channels width silu reverse threads ranges",
    pointer_inputs="x weight bias",
    int_strides="x_batch x_time",
    pointer_outputs="out",
)
CausalConvGradients = _structure(
    "CausalConvGradients",
    pointer_out="out",
    int_strides="out_batch out_time",
    pointer_rest="x weight bias",
    int_places="x_batch x_time add_to_x",
)
Ssd = _structure(
    "Ssd",
    int_sizes="batch length heads width groups states softplus reverse threads slices",
    pointer_inputs="x B C z dt A D dt_bias initial_state",
    int_strides="x_batch x_time x_head z_batch z_time z_head B_batch B_time B_group C_batch C_time C_group "
    "dt_batch dt_time dt_head",
    pointer_outputs="out last_state chunk_states",
)
SsdGradients = _structure(
    "SsdGradients",
    pointer_out="out",
    int_strides="out_batch out_time out_head",
    pointer_rest="last_state x z dt A D dt_bias B C initial_state",
)
_STRUCTURES = {
    "selective_scan": SelectiveScan,
    "selective_scan_gradients": SelectiveScanGradients,
    "causal_conv": CausalConv,
    "causal_conv_gradients": CausalConvGradients,
    "ssd": Ssd,
    "ssd_gradients": SsdGradients,
}


class Library:
    """One loaded build: ``float`` (float32 and bfloat16 tensors) or ``double`` (float64)."""

    def __init__(self, path: Path) -> None:
        self._functions = ctypes.CDLL(str(path))
        try:
            fits = all(self._number(f"{name}_bytes") == ctypes.sizeof(s) for name, s in _STRUCTURES.items())
            fits = fits and self._number("scan_chunk") == CHUNK
        except AttributeError:
            fits = False
        if not fits:
            raise OSError(f"{path} does not fit this version of the package")
        self.lanes = self._number("scan_lanes")

    def _number(self, name: str) -> int:
        function = getattr(self._functions, name)
        function.restype = ctypes.c_int64
        return function()

    def call(self, name: str, dtype: torch.dtype, *structures: ctypes.Structure) -> None:
        """Calls a function of the library; Python's lock is released meanwhile.

        Raises:
            MemoryError: Work space could not be allocated.
        """
        arguments = [ctypes.byref(s) for s in structures]
        if getattr(self._functions, name)(*arguments, int(dtype == torch.bfloat16)):
            raise MemoryError(f"no memory for the work space of {name}")


def load(dtype: torch.dtype) -> Library:
    """The library that computes on tensors of ``dtype`` (float32, bfloat16 or float64), built if need be.

    Raises:
        BuildError: It could not be built or loaded.
    """
    return _load("double" if dtype == torch.float64 else "float")


@cache
def _load(variant: str) -> Library:
    path = _native_build.library_path(variant)
    try:
        library = Library(path)
    except OSError as error:
        _log.info("building %s again: %s", path, error)
        try:
            library = Library(_native_build.library_path(variant, rebuild=True))
        except OSError as again:
            raise _native_build.BuildError(f"cannot load {path}: {again}") from again
    return library


def pointer(tensor: Tensor | None) -> int | None:
    """Address of a tensor's first element, None for None."""
    return None if tensor is None else tensor.data_ptr()


def streams(*tensors: Tensor | None) -> list[Tensor | None]:
    """The long tensors as the library reads them: one dtype, the last dimension contiguous, copied only if need be.

    That dtype is bfloat16 if all have it, float64 if the first has it, else float32.
    """
    present = [x.dtype for x in tensors if x is not None]
    dtype = torch.bfloat16 if set(present) == {torch.bfloat16} else state_dtype(present[0])
    return [_last_contiguous(None if x is None else x.to(dtype)) for x in tensors]


def parameters(like: Tensor, *tensors: Tensor | None) -> list[Tensor | None]:
    """The short tensors as the library reads them: in the precision of the state for inputs like ``like``, dense."""
    return [None if x is None else x.to(state_dtype(like.dtype)).contiguous() for x in tensors]


def in_dtypes(gradients: Sequence[Tensor | None], tensors: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Gradients in the dtypes of their tensors, None where there is no tensor."""
    return tuple(None if x is None else g.to(x.dtype) for g, x in zip(gradients, tensors, strict=True))


def _last_contiguous(tensor: Tensor | None) -> Tensor | None:
    return tensor if tensor is None or tensor.stride(-1) == 1 else tensor.contiguous()


def sum_parts(parts: Tensor | None) -> Tensor | None:
    """Sum over the first dimension, without a copy if there is one part; None for None."""
    if parts is None:
        return None
    return parts.sum(0) if parts.shape[0] > 1 else parts.squeeze(0)


def segments(batch: int, parts: int, updates: int, chunks: int) -> int:
    """Into how many segments a sequence is cut for threads that would otherwise have nothing to do.

    Two passes are needed then, so that it takes three times as many threads as pieces to be worth it.

    Args:
        batch: Batch size.
        parts: Largest number of slices that a batch element can be cut into.
        updates: Updates of a vector element in the whole call.
        chunks: Chunks of the sequence; a segment has four at least.
    """
    count = min(torch.get_num_threads() // max(batch * parts, 1), chunks // 4)
    return count if count >= 3 and updates >= _WORTH_A_THREAD else 1


def cut(batch: int, parts: int, updates: int) -> tuple[int, int]:
    """Threads to use, and slices per batch element so that every thread gets the same number of pieces.

    Args:
        batch: Batch size.
        parts: Largest number of slices that a batch element can be cut into.
        updates: Updates of a vector element in the whole call.
    """
    threads = min(torch.get_num_threads(), batch * parts) if updates >= _WORTH_A_THREAD else 1
    slices = min(parts, threads // math.gcd(batch, threads))
    return threads, slices
