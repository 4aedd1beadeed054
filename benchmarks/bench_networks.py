"""Whole networks: inference and a training step, the same weights on each backend of the operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.networks import NETWORKS, Network
from benchmarks.operator_bench import FIRST, Options, with_ratio
from benchmarks.timing import peak_bytes, take_turns, threads
from custom_networks.ops import set_backend
from custom_networks.ops.backend import availability

BACKENDS = (FIRST, "torch", "reference")
# Relative difference of outputs and of all gradients taken together; float32 sums in another order, network deep.
TOLERANCE = 1e-2


def run(options: Options) -> Iterator[dict[str, object]]:
    """Records of all networks; ``quick`` ones only unless all shapes are asked for."""
    for network in NETWORKS:
        if network.name not in options.shapes if options.shapes else options.quick and not network.quick:
            continue
        yield from _measure(network, options)


def _measure(network: Network, options: Options) -> Iterator[dict[str, object]]:
    torch.manual_seed(torch.initial_seed() % 2**31)
    inputs, module = network.inputs(), network.build()
    sound, results = [], {}
    names = [name for name in BACKENDS if availability(name)[0] and options.wants_peer(name)]
    base = {"operator": "network", "shape": network.name, "sizes": inputs[0].shape, "dtype": "float32"}
    for name in names:
        if name == "reference" and network.slow_loop:
            yield {**base, "peer": name, "skipped": "loop over time too slow"}
            continue
        results[name] = _on_backend(name, lambda: _results(network, module, inputs))()
        worst = max(_difference(a, b) for a, b in zip(results[name], results[names[0]], strict=True))
        if worst <= TOLERANCE:
            sound.append(name)
        else:
            yield {**base, "peer": name, "skipped": f"differs from {names[0]} by {worst:.1e}"}
    del results
    modes = {"inference": _inference(module, inputs), "training step": _training_step(network, module, inputs)}
    for mode, call in modes.items():
        calls = {name: _on_backend(name, call) for name in sound}
        for count in options.thread_counts:
            with threads(count):
                times = take_turns(calls, options.rounds, options.budget_s)
            for name in sound:
                record = {**base, "mode": mode, "threads": count, "peer": name} | with_ratio(times, name)
                if options.memory and count == options.thread_counts[-1] and (peak := peak_bytes(calls[name])):
                    record["memory_mib"] = round(peak / 2**20)
                yield record


def _inference(module: nn.Module, inputs: tuple) -> Callable[[], object]:
    def call() -> object:
        module.eval()
        with torch.no_grad():
            return module(*inputs)

    return call


def _training_step(network: Network, module: nn.Module, inputs: tuple) -> Callable[[], object]:
    # Steps of no size: the work of an optimizer, and every round computes the same.
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0, momentum=0.99)

    def call() -> None:
        module.train()
        optimizer.zero_grad()
        _loss(network, module(*inputs)).backward()
        optimizer.step()

    return call


def _loss(network: Network, outputs: object) -> Tensor:
    if network.loss is not None:
        return network.loss(outputs)
    outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return sum(y.square().mean() for y in outputs)


def _results(network: Network, module: nn.Module, inputs: tuple) -> list[Tensor]:
    """Loss, and all gradients in one row."""
    torch.manual_seed(0)  # of whatever a network draws while it trains
    module.train()
    module.zero_grad()
    loss = _loss(network, module(*inputs))
    loss.backward()
    gradients = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
    return [loss.detach(), torch.cat(gradients)]


def _difference(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


def _on_backend(name: str, call: Callable[[], object]) -> Callable[[], object]:
    def run_there() -> object:
        set_backend(name)
        try:
            return call()
        finally:
            set_backend("auto")

    return run_there
