"""What every launch of a Triton kernel shares: the device it runs on, strides, alignment, sizes of programs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import triton
from torch import Tensor

# A program of the sequential kernels is one warp, and a processor has four schedulers: below one warp for each, cutting
# time into chunks is worth a second exponential.
PROGRAMS_PER_PROCESSOR = 4


@cache
def processors(device: torch.device) -> int:
    """Number of streaming multiprocessors; 1 for the interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@cache
def architecture(device: torch.device) -> int:
    """Major compute capability; that of Hopper for the interpreter."""
    return torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 9


def launch(kernel: Callable, programs: int | tuple[int, int], device: torch.device, *arguments: object, **options):
    """Runs ``programs`` of a kernel on ``device``, whichever device is current.

    Contraction to fused multiply-adds is asked for: the release that follows Triton 3.9 turns it off by default.
    """
    grid = programs if isinstance(programs, tuple) else (programs,)
    with torch.cuda.device(device) if device.type == "cuda" else torch.device("cpu"):
        kernel[grid](*arguments, enable_fp_fusion=True, **options)


def dense_rows(x: Tensor | None) -> Tensor | None:
    """``x``, copied if its last dimension has no unit stride."""
    return x if x is None or x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def as_float(x: Tensor | None) -> Tensor | None:
    """``x`` in float32 and dense."""
    return None if x is None else x.float().contiguous()


def alignment(*tensors: Tensor) -> int:
    """Largest of 8, 4, 2 and 1 that divides all strides but the last: rows begin at multiples of it."""
    strides = [s for x in tensors for s, size in zip(x.stride()[:-1], x.shape, strict=False) if size > 1]
    return next(a for a in (8, 4, 2, 1) if all(s % a == 0 for s in strides))


def power_of_two(x: int) -> int:
    """The smallest power of two not below ``x``."""
    return triton.next_power_of_2(x)
