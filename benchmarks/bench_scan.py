"""Selective scan: speed and memory against the peers."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.cases import SCAN, Shape, scan_inputs
from benchmarks.operator_bench import Options, measure
from benchmarks.peers import Peer, scan_peers


def run(options: Options) -> Iterator[dict[str, object]]:
    """Records of all shapes."""
    return measure("scan", SCAN, list(scan_peers()), scan_inputs, (1, 70, 19, 5), options, _skips, "u")


def _skips(peer: Peer, shape: Shape, training: bool) -> str:
    batch, length, channels, states = shape.sizes
    if batch * length * channels * states > peer.largest:
        return "needs too much memory"
    return "backward pass too slow at this length" if training and length > peer.longest_training else ""
