"""What a measurement depends on besides the code: one record, written before the numbers."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from benchmarks.timing import cores
from custom_networks.ops import backend_info

_ALLOCATOR = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "THP_MEM_ALLOC_ENABLE", "LD_PRELOAD")


def describe() -> dict[str, object]:
    """Processor, load, versions, allocator and thread settings."""
    processor, flags = platform.processor(), []
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        fields = {name.strip(): value.strip() for name, value in fields.items()}
        processor = fields.get("model name", processor)
        present = fields.get("flags", fields.get("Features", "")).split()
        flags = [
            flag for flag in ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve") if flag in present
        ]
    return {
        "processor": processor,
        "features": flags,
        "cores": cores(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "native": backend_info()["reason"]["native"],
        "allocator": allocator(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "unset"),
    }


def allocator() -> str:
    """``default``, or the settings that keep freed memory in the process."""
    chosen = [f"{name}={os.environ[name]}" for name in _ALLOCATOR if os.environ.get(name)]
    return " ".join(chosen) or "default"
