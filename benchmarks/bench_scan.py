"""Selective scan: speed and memory against the peers, and both directions against one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.cases import SCAN, Shape, scan_inputs
from benchmarks.operator_bench import FIRST, Options, measure, with_ratio
from benchmarks.peers import Peer, scan_peers
from benchmarks.timing import inference_call, take_turns, threads, training_call
from custom_networks.ops.backend import availability


def run(options: Options) -> Iterator[dict[str, object]]:
    """Records of all shapes."""
    yield from measure("scan", SCAN, list(scan_peers()), scan_inputs, (1, 70, 19, 5), options, _skips, "u")
    if availability(FIRST)[0]:
        yield from _directions(options)


def _skips(peer: Peer, shape: Shape, training: bool) -> str:
    batch, length, channels, states = shape.sizes
    if batch * length * channels * states * (3 if training else 1) > peer.largest:
        return "needs too much memory"
    if peer.name == "reference" and length > 10_000:
        return "too slow at this length"
    return "backward pass too slow at this length" if training and length > peer.longest_training else ""


def _directions(options: Options) -> Iterator[dict[str, object]]:
    """Records of the native scan in one direction, in both, and in both by way of flipped copies.

    Without gradients, the second direction is added to the output of the first, as inside a bidirectional mixer.
    """
    from custom_networks.ops._native import selective_scan
    from custom_networks.ops._native_selective_scan import forward

    def one(**tensors: Tensor) -> Tensor:
        return selective_scan(**tensors, delta_softplus=True)

    def both(**tensors: Tensor) -> Tensor:
        return one(**tensors) + selective_scan(**tensors, delta_softplus=True, reverse=True)

    def in_place(**tensors: Tensor) -> Tensor:
        rows = {name: x.transpose(1, 2) if name in ("u", "delta", "z") else x for name, x in tensors.items()}
        rows |= {name: tensors[name].permute(0, 3, 1, 2) for name in "BC"}
        out, *_ = forward(**rows, initial_state=None, delta_softplus=True, reverse=False, save_states=False)
        return forward(**rows, initial_state=None, delta_softplus=True, reverse=True, save_states=False, add_to=out)[
            0
        ].transpose(1, 2)

    def by_flips(**tensors: Tensor) -> Tensor:
        return one(**tensors) + one(**{k: x.flip(-1) if x.dim() > 2 else x for k, x in tensors.items()}).flip(-1)

    small = scan_inputs((1, 70, 19, 5))
    for way in (both, in_place):
        if not torch.allclose(way(**small), by_flips(**small), rtol=1e-4, atol=1e-4):
            raise RuntimeError("the reverse direction differs from a scan of flipped tensors")
    ways = {FIRST: one, "native, both directions": both, "native, both by flips": by_flips}
    for shape in filter(options.wants, SCAN):
        if not shape.both:
            continue
        tensors = scan_inputs(shape.sizes)
        for mode, make in (("forward", inference_call), ("forward and backward", training_call)):
            calls = {name: make(way, tensors) for name, way in ways.items()}
            if mode == "forward":
                calls["native, both directions"] = make(in_place, tensors)
            for count in options.thread_counts:
                with threads(count):
                    times = take_turns(calls, options.rounds, options.budget_s)
                for name in calls:
                    record = {"operator": "directions of the scan", "shape": shape.name, "sizes": shape.sizes}
                    record |= {"mode": mode, "dtype": "float32", "threads": count, "peer": name}
                    yield record | with_ratio(times, name)
