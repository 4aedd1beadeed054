"""Causal convolution: speed against the peers and against a plain copy."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from benchmarks.cases import CONV, conv_inputs
from benchmarks.operator_bench import Options, measure
from benchmarks.peers import Peer, conv_peers


def run(options: Options) -> Iterator[dict[str, object]]:
    """Records of all shapes; the peer ``copy`` is no convolution but the floor of the forward pass."""
    peers = [*conv_peers(), Peer("copy", _copy)]
    return measure("conv", CONV, peers, conv_inputs, (1, 70, 19), options, _skips, "x", unchecked=("copy",))


def _copy(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.clone()


def _skips(peer: Peer, shape: object, training: bool) -> str:
    return "no gradient of the weight" if training and peer.name == "copy" else ""
