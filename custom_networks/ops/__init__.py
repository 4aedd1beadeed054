"""Sequence operators of the Mamba family, on whatever backend the machine offers.

Letters used everywhere below: ``B`` batch, ``L`` length, ``D`` channels, ``N`` state size, ``H`` heads, ``P`` head
width, ``G`` groups, ``W`` width of a convolution, ``T`` steps of a chunk.

Memory comes from the process's allocator, whose settings are left alone: they are a matter of the program that starts
Python. On Linux the C library returns every large tensor to the system and faults it in again on the next use. Started
with ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=68719476736 MALLOC_TOP_PAD_=67108864`` a process keeps that memory, and
operators on long sequences are up to twice as fast on a CPU.
"""

# Their operators are registered here, which builds nothing, so that exported programs load after this import alone.
from custom_networks.ops import _native, _torch, _triton  # noqa: F401
from custom_networks.ops.backend import backend_info, set_backend, using_backend
from custom_networks.ops.bidirectional import bidirectional_selective_scan
from custom_networks.ops.functional import causal_conv1d, selective_scan, ssd_scan
from custom_networks.ops.mamba_inner import bidirectional_mamba_inner, mamba_inner

__all__ = [
    "backend_info",
    "bidirectional_mamba_inner",
    "bidirectional_selective_scan",
    "causal_conv1d",
    "mamba_inner",
    "selective_scan",
    "set_backend",
    "ssd_scan",
    "using_backend",
]
