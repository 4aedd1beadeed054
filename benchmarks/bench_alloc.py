"""The memory allocator: fresh large tensors against reused ones, and the scan under the present settings.

The settings are read by the C library when a process starts, so they are compared by running this twice.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.cases import scan_inputs
from benchmarks.machine import allocator
from benchmarks.operator_bench import FIRST, Options
from benchmarks.peers import scan_peers
from benchmarks.timing import inference_call, take_turns, threads, training_call


def run(options: Options) -> Iterator[dict[str, object]]:
    """Records of a clone, a copy into existing memory, and the native scan at L = 16 000."""
    large = torch.randn(25_000_000)
    target = torch.empty_like(large)
    calls = {"clone of 100 MB": large.clone, "copy of 100 MB into its place": lambda: target.copy_(large)}
    native = next((peer for peer in scan_peers() if peer.name == FIRST), None)
    if native is not None:
        tensors = scan_inputs((1, 16000, 768, 16))
        calls["native scan, forward"] = inference_call(native.run, tensors)
        calls["native scan, forward and backward"] = training_call(native.run, tensors)
    count = options.thread_counts[-1]
    with threads(count):
        times = take_turns(calls, options.rounds, options.budget_s)
    for name, found in times.items():
        found = {key: round(value, 4) for key, value in found.items()}
        yield {"operator": "allocator", "peer": name, "threads": count, "allocator": allocator(), **found}
