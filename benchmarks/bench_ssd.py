"""State-space dual scan: speed and memory against the peers."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.cases import SSD, Shape, ssd_inputs
from benchmarks.operator_bench import Options, measure
from benchmarks.peers import Peer, ssd_peers


def run(options: Options) -> Iterator[dict[str, object]]:
    """Records of all shapes."""
    return measure("ssd", SSD, list(ssd_peers()), ssd_inputs, (1, 70, 2, 19, 5), options, _skips, "x")


def _skips(peer: Peer, shape: Shape, training: bool) -> str:
    return "backward pass too slow at this length" if training and shape.sizes[1] > peer.longest_training else ""
