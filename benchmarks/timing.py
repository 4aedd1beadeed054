"""Time and memory of calls that take turns in one process."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch


def take_turns(calls: dict[str, Callable[[], object]], rounds: int, budget_s: float) -> dict[str, dict[str, float]]:
    """Times every call ``rounds`` times, one after the other in each round.

    With one thread the clock is the processor time of this process, which other load disturbs little; with more it is
    the wall clock.

    Args:
        calls: What to time, by name.
        rounds: Timed runs of each after one warm-up run.
        budget_s: A call whose warm-up run takes longer is not run again.

    Returns:
        ``min_ms``, ``median_ms`` and ``runs`` by name.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {}
    slow = set()
    for name, call in calls.items():
        start = clock()
        call()
        once = clock() - start
        times[name] = []
        if once > budget_s:
            times[name].append(once)
            slow.add(name)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in calls.items():
                if name not in slow:
                    start = clock()
                    call()
                    times[name].append(clock() - start)
    finally:
        gc.enable()
    return {
        name: {"min_ms": 1e3 * min(runs), "median_ms": 1e3 * statistics.median(runs), "runs": len(runs)}
        for name, runs in times.items()
    }


def peak_bytes(call: Callable[[], object]) -> int | None:
    """How far the resident memory of this process rises during a call, in bytes; None where Linux does not tell."""
    call()
    gc.collect()
    try:
        # Memory that the allocator kept from earlier calls would hide what this one needs.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return None
    before = _status("VmRSS")
    result = call()
    peak = _status("VmHWM") - before
    del result
    return peak


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


@contextlib.contextmanager
def threads(count: int):
    """Runs with this many PyTorch threads, and makes sure that it is so afterwards too."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
        if torch.get_num_threads() != count:
            raise RuntimeError("a peer changed the number of PyTorch's threads")
    finally:
        torch.set_num_threads(before)


def training_call(run: Callable[..., torch.Tensor], tensors: dict[str, torch.Tensor]) -> Callable[[], object]:
    """Forward and backward to all tensors, for a fixed random gradient of the output."""
    leaves = {name: x.detach().requires_grad_() for name, x in tensors.items()}
    with torch.no_grad():
        gradient = torch.randn_like(run(**tensors))

    def call() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(run(**leaves), list(leaves.values()), gradient)

    return call


def inference_call(run: Callable[..., torch.Tensor], tensors: dict[str, torch.Tensor]) -> Callable[[], object]:
    """Forward without gradients."""

    def call() -> torch.Tensor:
        with torch.no_grad():
            return run(**tensors)

    return call


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
