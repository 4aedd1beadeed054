"""The measuring itself, the same for every operator: check, then time in turns, then memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.cases import Shape
from benchmarks.peers import Peer
from benchmarks.timing import cores, inference_call, peak_bytes, take_turns, threads, training_call

FIRST = "native"


@dataclass(frozen=True)
class Options:
    """What to measure and how long to wait; no shapes or peers named means all."""

    quick: bool = False
    shapes: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    memory: bool = True
    thread_counts: tuple[int, ...] = (1, cores())
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    rounds: int = 7
    budget_s: float = 2.0
    longest: int = 1 << 18

    def wants(self, shape: Shape) -> bool:
        """Whether a shape is to be measured."""
        return shape.name in self.shapes if self.shapes else shape.quick or not self.quick

    def wants_peer(self, name: str) -> bool:
        """Whether a peer is to be measured; the native one always is."""
        return not self.peers or name in (FIRST, *self.peers)


def measure(
    operator: str,
    shapes: Sequence[Shape],
    peers: Sequence[Peer],
    inputs: Callable,
    small: tuple[int, ...],
    options: Options,
    skips: Callable[[Peer, Shape, bool], str],
    unit: str,
    unchecked: tuple[str, ...] = (),
) -> Iterator[dict[str, object]]:
    """Times peers of an operator on shapes.

    Args:
        operator: Name for the records.
        shapes: What to time.
        peers: Implementations; the one called ``native`` is what ratios refer to.
        inputs: Sizes and dtype to tensors by name.
        small: Sizes of the call on which a peer must agree with the reference in float64 before it is timed.
        options: What to measure.
        skips: Reason to leave a peer out for a shape, with or without training; empty if there is none.
        unit: Tensor whose size is the unit of the memory figures.
        unchecked: Peers that compute something else.

    Yields:
        One record a shape, mode, dtype, number of threads and peer.
    """
    sound = yield from _sound(operator, peers, inputs(small), options, unchecked)
    for shape in filter(options.wants, shapes):
        for dtype in options.dtypes:
            tensors = inputs(shape.sizes, getattr(torch, dtype))
            # Reduced precision is for the project's own backends; published loops in PyTorch would lose the state.
            taking_part = [peer for peer in sound if dtype == "float32" or peer.name in (FIRST, "torch")]
            for mode, make in (("forward", inference_call), ("forward and backward", training_call)):
                waiting = {peer.name: skips(peer, shape, make is training_call) for peer in taking_part}
                calls = {
                    peer.name: make(peer.run, in_layout(peer, tensors))
                    for peer in taking_part
                    if not waiting[peer.name]
                }
                for count in options.thread_counts:
                    with threads(count):
                        times = take_turns(calls, options.rounds, options.budget_s)
                    for name, reason in waiting.items():
                        record = {"operator": operator, "shape": shape.name, "sizes": shape.sizes, "mode": mode}
                        record |= {"dtype": dtype, "threads": count, "peer": name}
                        if reason:
                            yield {**record, "skipped": reason}
                            continue
                        record |= with_ratio(times, name)
                        if options.memory and count == options.thread_counts[-1]:
                            record |= _after_timing(calls, name, mode, tensors[unit])
                        yield record


def with_ratio(times: dict[str, dict[str, float]], name: str) -> dict[str, float]:
    """The times of one call, and the multiple of the native one."""
    found = {key: round(value, 4) for key, value in times[name].items()}
    if FIRST in times:
        found["times_native"] = round(times[name]["min_ms"] / times[FIRST]["min_ms"], 2)
    return found


def in_layout(peer: Peer, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in the memory order that a peer likes best."""
    return tensors if peer.layout == "channel-last" else {name: x.contiguous() for name, x in tensors.items()}


def _sound(operator: str, peers: Sequence[Peer], tensors: dict[str, Tensor], options: Options, unchecked: tuple):
    """Yields a record for each peer that cannot take part; returns those that can."""
    reference = next(peer for peer in peers if peer.name == "reference")
    sound = []
    for peer in peers:
        if not options.wants_peer(peer.name):
            continue
        if peer.absent:
            yield {"operator": operator, "peer": peer.name, "skipped": peer.absent}
            continue
        worst = 0.0 if peer.name in unchecked else _disagreement(peer, reference, tensors)
        if worst <= 1e-4:
            sound.append(peer)
        else:
            yield {"operator": operator, "peer": peer.name, "skipped": f"differs from the reference by {worst:.1e}"}
    return sound


def _after_timing(calls: dict[str, Callable], name: str, mode: str, unit: Tensor) -> dict[str, float]:
    """Memory in multiples of ``unit``, and the largest difference of the timed output from the native one."""
    found: dict[str, float] = {}
    peak = peak_bytes(calls[name])
    if peak is not None:
        found["memory_of_input"] = round(peak / (unit.numel() * unit.element_size()), 2)
    if mode == "forward" and FIRST in calls and name not in (FIRST, "copy"):
        ours, theirs = calls[FIRST]().float(), calls[name]().float()
        found["difference"] = float(f"{((ours - theirs).abs().max() / ours.abs().max()).item():.1e}")
    return found


def _disagreement(peer: Peer, reference: Peer, tensors: dict[str, Tensor]) -> float:
    """Largest relative error of output and gradients of ``peer`` on a small call, against float64."""

    def results(run: Callable, inputs: dict[str, Tensor], dtype: torch.dtype) -> list[Tensor]:
        leaves = [x.detach().to(dtype).requires_grad_() for x in inputs.values()]
        y = run(**dict(zip(inputs, leaves, strict=True)))
        return [y, *torch.autograd.grad(y.square().sum(), leaves)]

    exact = results(reference.run, tensors, torch.float64)
    found = results(peer.run, in_layout(peer, tensors), torch.float32)
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(found, exact, strict=True))
