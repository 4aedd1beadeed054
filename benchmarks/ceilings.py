"""What this machine can do at best: memory traffic, multiply-adds, exponentials."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.operator_bench import Options
from benchmarks.timing import take_turns, threads


def run(options: Options) -> Iterator[dict[str, object]]:
    """Records with one rate each."""
    large, small = torch.randn(1 << 24), torch.randn(1 << 12)
    target, result = torch.empty_like(large), torch.empty_like(small)
    matrix = torch.randn(1536, 1536)
    calls = {
        "copy, GB/s": lambda: target.copy_(large),
        "matrix product, GFLOP/s": lambda: matrix @ matrix,
        "torch.exp in cache, G/s": lambda: [torch.exp(small, out=result) for _ in range(200)],
    }
    work = {
        "copy, GB/s": 2 * large.numel() * 4 / 1e9,
        "matrix product, GFLOP/s": 2 * 1536**3 / 1e9,
        "torch.exp in cache, G/s": 200 * small.numel() / 1e9,
    }
    for count in options.thread_counts:
        with threads(count):
            times = take_turns(calls, options.rounds, options.budget_s)
        for name, found in times.items():
            rate = work[name] / (found["min_ms"] / 1e3)
            yield {"operator": "ceiling", "peer": name, "threads": count, "rate": round(rate, 1)}
