"""Cold start: what a fresh process pays to import the package, to build the native library and to load it.

Each sample is a process of its own; the first has an empty cache directory, the others find the library in it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.operator_bench import Options
from custom_networks.ops._native_build import CACHE_VARIABLE

_PROBE = """
import json, os, time
from pathlib import Path
import torch
x = torch.randn(1, 40, 64)
A, B = -torch.rand(40, 16), torch.randn(1, 16, 64)
start = time.perf_counter()
import custom_networks.ops as ops
imported = time.perf_counter()
built_by_import = any(Path(os.environ["CUSTOM_NETWORKS_CACHE"]).glob("*"))
first = time.perf_counter()
ops.selective_scan(x, x, A, B, B, delta_softplus=True)
second = time.perf_counter()
ops.selective_scan(x, x, A, B, B, delta_softplus=True)
end = time.perf_counter()
print(json.dumps({
    "import": imported - start, "first call": second - first, "second call": end - second,
    "built by import": built_by_import, "native": ops.backend_info()["available"]["native"],
}))
"""


def run(options: Options) -> Iterator[dict[str, object]]:
    """Records of the empty cache, the cached library and the import, in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        empty = [_probe(Path(folder) / str(i)) for i in range(2)]
        cached = [_probe(Path(folder) / "0") for _ in range(options.rounds)]
    if any(sample["built by import"] for sample in empty):
        yield {"operator": "cold start", "peer": "import", "skipped": "the import itself built the library"}
        return
    kinds = {
        "import of custom_networks.ops after torch": [sample["import"] for sample in [*empty, *cached]],
        "first call, nothing cached (compiles)": [sample["first call"] for sample in empty],
        "first call, library cached": [sample["first call"] for sample in cached],
        "second call": [sample["second call"] for sample in cached],
    }
    for name, seconds in kinds.items():
        found = {"min_ms": round(1e3 * min(seconds), 2), "median_ms": round(1e3 * statistics.median(seconds), 2)}
        yield {"operator": "cold start", "peer": name, "runs": len(seconds), "native": empty[0]["native"], **found}


def _probe(cache: Path) -> dict:
    environment = {**os.environ, CACHE_VARIABLE: str(cache)}
    done = subprocess.run([sys.executable, "-c", _PROBE], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
