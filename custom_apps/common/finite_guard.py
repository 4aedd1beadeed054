"""Where the first number that is not finite comes from: runs a batch again and watches every layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from custom_apps.common.distributed import without_ddp


def explain_nonfinite(network: nn.Module, inputs: Any, forward: Callable[[], Any]) -> str:
    """Says in a few words which layer makes the first value that is NaN or infinite.

    The batch is run again without gradients, in the mode that the network is in; generators of random numbers and
    buffers, such as running statistics, are as before afterwards. What a network draws while it runs (masks, dropout)
    is drawn anew.

    Args:
        network: the network, DistributedDataParallel or not.
        inputs: what it was given; tensors, also in lists and dictionaries.
        forward: runs the network on them.

    Returns:
        A phrase such as ``the first is the output of layer 'encoder.0.norm' (LayerNorm): 12 of 4096 values, its input
        reaches 6.1e+04``.
    """
    network = without_ddp(network)
    if bad := _not_finite(inputs):
        return f"the batch itself has {bad[0]} of {bad[1]} values that are not finite"
    for name, parameter in network.named_parameters():
        if bad := _not_finite(parameter):
            return f"{bad[0]} of {bad[1]} weights of '{name}' are not finite: an earlier step ruined them"
    found: list[str] = []
    hooks = [
        module.register_forward_hook(_watch(name, found), with_kwargs=True) for name, module in network.named_modules()
    ]
    try:
        with torch.no_grad(), _as_before(network):
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else "every layer's output is finite when the batch is run again"


def nonfinite_gradients(network: nn.Module) -> str:
    """Which parameters have gradients that are NaN or infinite, in a few words; the last one is where it began."""
    named = [(name, p.grad) for name, p in without_ddp(network).named_parameters() if p.grad is not None]
    bad = [name for name, gradient in named if _not_finite(gradient)]
    if not bad:
        return "every gradient is finite, their norm is not"
    return f"gradients of {len(bad)} of {len(named)} parameters are not finite, the last of them '{bad[-1]}'"


def _watch(name: str, found: list[str]) -> Callable[..., None]:
    """A hook that notes the first output that is not finite; inner layers end before those around them."""

    def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        if not found and (bad := _not_finite(output)):
            reaches = max((float(t.abs().max()) for t in _tensors((args, kwargs)) if t.numel()), default=0.0)
            place = f"layer '{name}' ({type(module).__name__})" if name else f"the network ({type(module).__name__})"
            values = f"{bad[0]} of {bad[1]} values, its input reaches {reaches:.2g}"
            found.append(f"the first is the output of {place}: {values}")

    return hook


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    """Floating-point tensors in nested lists, tuples and dictionaries."""
    if isinstance(values, torch.Tensor):
        if values.is_floating_point():
            yield values.detach()
    elif isinstance(values, dict):
        for value in values.values():
            yield from _tensors(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)


def _not_finite(values: Any) -> tuple[int, int] | None:
    """How many values are not finite, of how many; None if all are."""
    tensors = list(_tensors(values))
    count = sum(int((~torch.isfinite(tensor)).sum()) for tensor in tensors)
    return (count, sum(tensor.numel() for tensor in tensors)) if count else None


@contextmanager
def _as_before(network: nn.Module) -> Iterator[None]:
    """Puts buffers and random generators back."""
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with torch.random.fork_rng():
        try:
            yield
        finally:
            for name, buffer in network.named_buffers():
                buffer.copy_(buffers[name])
