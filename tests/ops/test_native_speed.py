"""The compiled operators must stay faster than what they replace: ratios in one process against ``gates.json``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import benchmarks
from benchmarks import bench_conv, bench_scan, bench_ssd
from benchmarks.operator_bench import Options
from custom_networks.ops import _native

_GATES = json.loads((Path(benchmarks.__file__).parent / "gates.json").read_text())
_BENCHES = {"scan": bench_scan, "ssd": bench_ssd, "conv": bench_conv}

usable, reason = _native.is_available()


@pytest.mark.slow
@pytest.mark.skipif(not usable, reason=reason)
@pytest.mark.parametrize("operator", _BENCHES)
def test_native_is_faster_by_the_gated_factors(operator):
    gates = _GATES[operator]
    shapes = tuple({shape for _, shape, _, _ in gates})
    peers = tuple({peer for _, _, peer, _ in gates})
    options = Options(False, shapes, peers, False, (1,), ("float32",), rounds=5, budget_s=0.5)
    found = {}
    for record in _BENCHES[operator].run(options):
        assert "differs" not in record.get("skipped", ""), record
        if "times_native" in record:
            found[record["mode"], record["shape"], record["peer"]] = record["times_native"]
    missed = [gate for gate in gates if found[tuple(gate[:3])] < gate[3]]
    assert not missed, {tuple(gate): found[tuple(gate[:3])] for gate in missed}
