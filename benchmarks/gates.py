"""The compiled operators against ``gates.json``: ratios to other implementations, interleaved in one process.

Exit code 1 if a ratio is below its gate. Not part of the test-suite, because shared machines are noisy.

    python -m benchmarks.gates
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks import bench_conv, bench_scan, bench_ssd
from benchmarks.operator_bench import Options

BENCHES = {"scan": bench_scan, "ssd": bench_ssd, "conv": bench_conv}


def main() -> int:
    """Prints each gate with the measured ratio."""
    gates_of = json.loads((Path(__file__).parent / "gates.json").read_text(encoding="utf-8"))
    missed = 0
    for operator, bench in BENCHES.items():
        gates = gates_of[operator]
        shapes = tuple({shape for _, shape, _, _ in gates})
        peers = tuple({peer for _, _, peer, _ in gates})
        options = Options(False, shapes, peers, False, (1,), ("float32",), rounds=5, budget_s=0.5)
        found = {
            (record["mode"], record["shape"], record["peer"]): record["times_native"]
            for record in bench.run(options)
            if "times_native" in record
        }
        for mode, shape, peer, gate in gates:
            ratio = found.get((mode, shape, peer), 0.0)
            missed += ratio < gate
            print(
                f"{operator} {mode} {shape}: {ratio:.1f} times {peer}, gate {gate}{'' if ratio >= gate else '  MISSED'}"
            )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
