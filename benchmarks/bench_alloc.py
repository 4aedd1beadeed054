"""The memory allocator: fresh large tensors against reused ones, and the scan; default and tuned settings.

The settings are read when a process starts, so each is measured in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict

import torch

from benchmarks.cases import scan_inputs
from benchmarks.machine import ALLOCATOR_VARIABLES, TUNED
from benchmarks.operator_bench import FIRST, Options
from benchmarks.peers import scan_peers
from benchmarks.timing import inference_call, take_turns, threads, training_call


def run(options: Options) -> Iterator[dict[str, object]]:
    """Records of both settings."""
    bare = {name: value for name, value in os.environ.items() if name not in ALLOCATOR_VARIABLES}
    command = [sys.executable, "-m", "benchmarks.bench_alloc", json.dumps(asdict(options))]
    for setting, environment in {"default": bare, "tuned": bare | TUNED}.items():
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        for line in done.stdout.splitlines():
            yield {**json.loads(line), "allocator": setting}


def measure(options: Options) -> Iterator[dict[str, object]]:
    """Records of a clone, a copy into existing memory, and the native scan at L = 16 000, in this process."""
    large = torch.randn(25_000_000)
    target = torch.empty_like(large)
    calls = {"clone of 100 MB": large.clone, "copy of 100 MB into its place": lambda: target.copy_(large)}
    native = next((peer for peer in scan_peers() if peer.name == FIRST), None)
    if native is not None:
        tensors = scan_inputs((1, 16000, 768, 16))
        calls["native scan, forward"] = inference_call(native.run, tensors)
        calls["native scan, forward and backward"] = training_call(native.run, tensors)
    with threads(options.thread_counts[0]):
        times = take_turns(calls, options.rounds, options.budget_s)
    for name, found in times.items():
        found = {key: round(value, 4) for key, value in found.items()}
        yield {"operator": "allocator", "peer": name, "threads": options.thread_counts[0], **found}


if __name__ == "__main__":
    for record in measure(Options(**json.loads(sys.argv[1]))):
        print(json.dumps(record))
