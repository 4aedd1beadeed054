"""Command line: measures, writes JSON lines, prints Markdown."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from pathlib import Path

# Read by the OpenMP runtime when PyTorch loads: on a shared machine, threads that spin while they wait take the
# processor from those that work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from benchmarks import (
    bench_alloc,
    bench_block,
    bench_cold,
    bench_conv,
    bench_layout,
    bench_length,
    bench_networks,
    bench_scan,
    bench_ssd,
    ceilings,
    machine,
    report,
)
from benchmarks.operator_bench import Options
from benchmarks.timing import cores

GROUPS = {
    "ceilings": ceilings,
    "scan": bench_scan,
    "ssd": bench_ssd,
    "conv": bench_conv,
    "block": bench_block,
    "networks": bench_networks,
    "layout": bench_layout,
    "length": bench_length,
    "cold": bench_cold,
    "alloc": bench_alloc,
}


def main() -> int:
    """Runs the chosen groups."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", help=f"from {', '.join(GROUPS)}; all if none is named")
    parser.add_argument("--all-shapes", action="store_true", help="also the long sequences (takes long, 12 GB)")
    parser.add_argument("--shapes", nargs="+", default=[], help="only these shapes or networks, by name")
    parser.add_argument("--peers", nargs="+", default=[], help="only these peers beside native, by name")
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, cores()}))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", type=float, default=2.0, help="seconds above which a call runs only once")
    parser.add_argument("--longest", type=int, help="tokens of the longest sequence of group length")
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/output"), help="folder for JSON lines and plots"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.groups) - set(GROUPS):
        parser.error(f"unknown groups: {', '.join(sorted(unknown))}")
    options = Options(
        quick=not arguments.all_shapes,
        shapes=tuple(arguments.shapes),
        peers=tuple(arguments.peers),
        thread_counts=tuple(arguments.threads),
        dtypes=tuple(arguments.dtypes),
        rounds=arguments.rounds,
        budget_s=arguments.budget,
        longest=arguments.longest or (1 << 18 if arguments.all_shapes else 1 << 16),
    )
    # Fresh inputs every time; the seed is part of the record.
    torch.seed()
    arguments.output.mkdir(parents=True, exist_ok=True)
    stem = time.strftime("%Y%m%d-%H%M%S")
    records: list[dict[str, object]] = []
    with (arguments.output / f"{stem}.jsonl").open("x") as lines:

        def note(record: dict[str, object]) -> None:
            records.append(record)
            print(json.dumps(record), file=lines, flush=True)

        note({"machine": machine.describe(), "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])})
        for name in arguments.groups or GROUPS:
            print(f"measuring {name} ...", file=sys.stderr)
            for record in GROUPS[name].run(options):
                note(record)
    figure = arguments.output / f"{stem}-length.png"
    if bench_length.plot(records, figure):
        print(f"plot: {figure}", file=sys.stderr)
    print(report.markdown(records))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
