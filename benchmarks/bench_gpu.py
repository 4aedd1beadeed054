"""Triton kernels on a CUDA device against mamba-ssm and causal-conv1d: ``python -m benchmarks.bench_gpu``.

Each operator is checked against the float64 operators in PyTorch on a small shape with fresh numbers before it is
timed, and not timed if it is wrong. Implementations take turns, launch after launch; each starts from its own memory
layout unless ``with transposes``, where inputs and outputs are channel-last as linear layers leave them. Inputs rotate
through more memory than the second-level cache holds. Times are medians of device events.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.cases import CONV, SCAN, SSD, Shape, conv_inputs, scan_inputs, ssd_inputs
from custom_networks import ops
from custom_networks.ops.backend import offers

_GROUPS = {
    "selective_scan": (SCAN, scan_inputs, (2, 130, 24, 16), {"delta_softplus": True}),
    "ssd_scan": (SSD, ssd_inputs, (2, 130, 2, 64, 64), {"dt_softplus": True}),
    "causal_conv1d": (CONV, conv_inputs, (2, 130, 24), {"activation": "silu"}),
}
_IN_TIME = ("u", "delta", "B", "C", "z", "x")
_TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}


def main() -> int:
    """Times what is asked for, prints JSON lines, the device first."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_gpu", description=__doc__)
    parser.add_argument("--operators", nargs="+", default=list(_GROUPS), choices=list(_GROUPS))
    parser.add_argument("--shapes", nargs="+", default=[], help="only these, by name")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=list(_TOLERANCE))
    parser.add_argument("--backends", nargs="+", default=["triton", "mamba_ssm", "torch"])
    parser.add_argument("--warm-up", type=int, default=20, help="untimed launches")
    parser.add_argument("--launches", type=int, default=100, help="timed launches")
    parser.add_argument("--budget", type=float, default=1.0, help="seconds above which a call is timed three times")
    parser.add_argument("--output", type=Path, help="file for the JSON lines, beside the terminal")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device: nothing is measured", file=sys.stderr)
        return 1
    torch.seed()
    lines = []

    def write(record: dict[str, object]) -> None:
        lines.append(json.dumps(record))
        print(lines[-1], flush=True)

    write(_machine())
    for operator in arguments.operators:
        usable = [name for name in arguments.backends if offers(name, operator)]
        for name in set(arguments.backends) - set(usable):
            write({"operator": operator, "backend": name, "absent": ops.backend_info()["reason"][name]})
        for dtype in arguments.dtypes:
            right = [name for name in usable if _is_right(operator, name, dtype, write)]
            for shape in _GROUPS[operator][0]:
                if not arguments.shapes or shape.name in arguments.shapes:
                    for record in _time(operator, right, shape, dtype, arguments):
                        write(record)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text("\n".join(lines) + "\n")
    return 0


def _machine() -> dict[str, object]:
    device = torch.cuda.get_device_properties(0)
    return {
        "device": device.name,
        "capability": f"{device.major}.{device.minor}",
        "multiprocessors": device.multi_processor_count,
        "memory_gib": round(device.total_memory / 2**30, 1),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "backends": ops.backend_info()["reason"],
        "seed": torch.initial_seed(),
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _call(operator: str, backend: str, tensors: dict[str, Tensor], reverse: bool = False) -> Tensor:
    ops.set_backend(backend)
    try:
        return getattr(ops, operator)(**tensors, **_GROUPS[operator][3], reverse=reverse)
    finally:
        ops.set_backend("auto")


def _with_gradients(operator: str, backend: str, tensors: dict[str, Tensor]) -> list[Tensor]:
    leaves = {name: x.detach().clone().requires_grad_() for name, x in tensors.items()}
    y = _call(operator, backend, leaves)
    return [y, *torch.autograd.grad(y.double().square().sum(), list(leaves.values()))]


def _is_right(operator: str, backend: str, dtype: str, write: Callable[[dict], None]) -> bool:
    _, make, sizes, _ = _GROUPS[operator]
    tensors = {name: x.cuda() for name, x in make(sizes, getattr(torch, dtype)).items()}
    exact = {name: x.double() for name, x in tensors.items()}
    pairs = zip(_with_gradients(operator, backend, tensors), _with_gradients(operator, "torch", exact), strict=True)
    errors = [((ours.double() - theirs).norm() / theirs.norm().clamp_min(1e-30)).item() for ours, theirs in pairs]
    right = max(errors) <= _TOLERANCE[dtype]
    record = {"operator": operator, "backend": backend, "dtype": dtype, "output_error": errors[0]}
    write(record | {"largest_gradient_error": max(errors[1:]), "right": right})
    return right


def _layout(tensors: dict[str, Tensor], backend: str, operator: str) -> dict[str, Tensor]:
    """Inputs as a backend likes them: mamba-ssm's kernels read sequences with time last."""
    if backend != "mamba_ssm" or operator == "ssd_scan":
        return tensors
    return {name: x.contiguous() if name in _IN_TIME else x for name, x in tensors.items()}


def _time(
    operator: str, backends: list[str], shape: Shape, dtype: str, arguments: argparse.Namespace
) -> list[dict[str, object]]:
    _, make, _, _ = _GROUPS[operator]
    tensors = {name: x.cuda() for name, x in make(shape.sizes, getattr(torch, dtype)).items()}
    size = sum(x.numel() * x.element_size() for x in tensors.values())
    copies = max(1, min(8, -(-2 * torch.cuda.get_device_properties(0).L2_cache_size // size)))
    calls = {}
    for backend in backends:
        calls[backend, "own layout"] = _layout(tensors, backend, operator)
        if backend == "mamba_ssm" and operator != "ssd_scan":
            calls[backend, "with transposes"] = tensors
    records = []
    for mode in ("forward", "forward and backward"):
        timed = {}
        for (backend, layout), inputs in calls.items():
            rotated = [{name: x.clone().requires_grad_() for name, x in inputs.items()} for _ in range(copies)]
            timed[backend, layout] = _runs(operator, backend, rotated, mode)
        milliseconds = _take_turns(timed, arguments)
        for (backend, layout), run in timed.items():
            times = milliseconds[backend, layout]
            records.append(
                {
                    "operator": operator,
                    "shape": shape.name,
                    "sizes": shape.sizes,
                    "dtype": dtype,
                    "mode": mode,
                    "backend": backend,
                    "layout": layout,
                    "device": torch.cuda.get_device_name(0),
                    "median_ms": statistics.median(times),
                    "minimum_ms": min(times),
                    "launches": len(times),
                    "peak_mib": _peak_mib(run),
                }
            )
    return records


def _runs(operator: str, backend: str, rotated: list[dict[str, Tensor]], mode: str) -> Callable[[int], None]:
    grads: list[Tensor] = []

    def run(turn: int) -> None:
        leaves = rotated[turn % len(rotated)]
        if mode == "forward":
            with torch.no_grad():
                _call(operator, backend, leaves)
            return
        y = _call(operator, backend, leaves)
        if not grads:
            grads.append(torch.randn_like(y))
        torch.autograd.grad(y, list(leaves.values()), grads[0])

    return run


def _take_turns(runs: dict, arguments: argparse.Namespace) -> dict[object, list[float]]:
    """Milliseconds of each run between device events."""
    slow = set()
    for key, run in runs.items():
        # The first calls compile.
        for _ in range(3):
            torch.cuda.synchronize()
            start = time.perf_counter()
            run(0)
            torch.cuda.synchronize()
        if time.perf_counter() - start > arguments.budget:
            slow.add(key)
    events: dict[object, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {key: [] for key in runs}
    for turn in range(arguments.warm_up + arguments.launches):
        for key, run in runs.items():
            if key in slow and turn >= 3:
                continue
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run(turn)
            end.record()
            if turn >= arguments.warm_up or key in slow:
                events[key].append((begin, end))
    torch.cuda.synchronize()
    return {key: [begin.elapsed_time(end) for begin, end in pairs] for key, pairs in events.items()}


def _peak_mib(run: Callable[[int], None]) -> float:
    """Memory that a call takes beyond what is there before it."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run(0)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


if __name__ == "__main__":
    sys.exit(main())
