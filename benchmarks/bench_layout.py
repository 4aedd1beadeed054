"""Memory layout and normalization of a segmentation network: as built, channels-last, and with InstanceNorm."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks.networks import NETWORKS
from benchmarks.operator_bench import FIRST, Options, with_ratio
from benchmarks.timing import take_turns, threads

NAME = "U-Mamba_Bot 3-D"
TOLERANCE = 1e-4


def run(options: Options) -> Iterator[dict[str, object]]:
    """Records of inference and of forward with backward."""
    network = next(network for network in NETWORKS if network.name == NAME)
    (image,), module = network.inputs(), network.build()
    variants = {
        FIRST: (module, image),
        "channels-last": (
            copy.deepcopy(module).to(memory_format=torch.channels_last_3d),
            image.to(memory_format=torch.channels_last_3d),
        ),
        "InstanceNorm": (with_instance_norm(module), image),
    }
    base = {"operator": "layout", "shape": NAME, "sizes": image.shape, "dtype": "float32"}
    with torch.no_grad():
        expected = _first(module.eval()(image))
        for name, (variant, given) in variants.items():
            difference = ((_first(variant.eval()(given)) - expected).norm() / expected.norm()).item()
            if difference > TOLERANCE:
                raise AssertionError(f"{name} computes something else: {difference:.1e}")
    for mode, make in {"inference": _inference, "forward and backward": _training}.items():
        calls = {name: make(*variant) for name, variant in variants.items()}
        for count in options.thread_counts:
            with threads(count):
                times = take_turns(calls, options.rounds, options.budget_s)
            for name in calls:
                yield {**base, "mode": mode, "threads": count, "peer": name} | with_ratio(times, name)


def with_instance_norm(module: nn.Module) -> nn.Module:
    """A copy whose normalizations of one group a channel are PyTorch's InstanceNorm, the same function."""
    result = copy.deepcopy(module)
    for parent in list(result.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GroupNorm) and child.num_groups == child.num_channels:
                norm = nn.InstanceNorm3d(child.num_channels, eps=child.eps, affine=True)
                norm.load_state_dict(child.state_dict())
                setattr(parent, name, norm)
    return result


def _first(outputs: object) -> torch.Tensor:
    return outputs[0] if isinstance(outputs, list | tuple) else outputs


def _inference(module: nn.Module, image: torch.Tensor) -> Callable[[], object]:
    def call() -> object:
        with torch.no_grad():
            return module(image)

    return call


def _training(module: nn.Module, image: torch.Tensor) -> Callable[[], object]:
    def call() -> None:
        module.zero_grad()
        _first(module(image)).square().mean().backward()

    return call
