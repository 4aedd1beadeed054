"""Command line: measures, writes JSON lines, prints Markdown."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

# Read by the OpenMP runtime when PyTorch loads: on a shared machine, threads that spin while they wait take the
# processor from those that work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from benchmarks import bench_alloc, bench_block, bench_conv, bench_scan, bench_ssd, ceilings, machine, report
from benchmarks.operator_bench import Options
from benchmarks.timing import cores

GROUPS = {
    "ceilings": ceilings,
    "scan": bench_scan,
    "ssd": bench_ssd,
    "conv": bench_conv,
    "block": bench_block,
    "alloc": bench_alloc,
}


def main() -> int:
    """Runs the chosen groups."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", help=f"from {', '.join(GROUPS)}; all if none is named")
    parser.add_argument("--all-shapes", action="store_true", help="also the long sequences (takes long, 10 GB)")
    parser.add_argument("--shapes", nargs="+", default=[], help="only these shapes, by name")
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, cores()}))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, help="file for the JSON lines; must not exist")
    arguments = parser.parse_args()
    if unknown := set(arguments.groups) - set(GROUPS):
        parser.error(f"unknown groups: {', '.join(sorted(unknown))}")
    options = Options(
        quick=not arguments.all_shapes,
        shapes=tuple(arguments.shapes),
        thread_counts=tuple(arguments.threads),
        dtypes=tuple(arguments.dtypes),
        rounds=arguments.rounds,
    )
    output = arguments.output.open("x") if arguments.output else None
    records: list[dict[str, object]] = []

    def note(record: dict[str, object]) -> None:
        records.append(record)
        if output:
            print(json.dumps(record), file=output, flush=True)

    note({"machine": machine.describe()})
    for name in arguments.groups or GROUPS:
        print(f"measuring {name} ...", file=sys.stderr)
        for record in GROUPS[name].run(options):
            note(record)
    print(report.markdown(records))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
