"""What a measurement depends on besides the code: one record, written before the numbers."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import torch

from benchmarks.timing import cores
from custom_networks.ops import backend_info

# Keeps freed memory in the process instead of giving it back to the system: what the Makefile sets too.
TUNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "68719476736",
    "MALLOC_TOP_PAD_": "67108864",
}
ALLOCATOR_VARIABLES = (*TUNED, "THP_MEM_ALLOC_ENABLE", "LD_PRELOAD")


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
        "peers": {name: _version(name) for name in ("transformers", "mambapy", "mamba_ssm")},
        "seed": torch.initial_seed(),
        "native": backend_info()["reason"]["native"],
        "allocator": allocator(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "unset"),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def allocator() -> str:
    """``default`` (the C library's), ``tuned`` (as ``TUNED``), or the settings that were found."""
    chosen = {name: os.environ[name] for name in ALLOCATOR_VARIABLES if os.environ.get(name)}
    if chosen == TUNED:
        return "tuned"
    return " ".join(f"{name}={value}" for name, value in chosen.items()) or "default"
