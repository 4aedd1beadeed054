"""Freezing parts of a network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def freeze(network: nn.Module, modules: Sequence[str] = (), parameters: Sequence[str] = ()) -> nn.Module:
    """Excludes parts of a network from training and returns the network.

    Args:
        network: changed in place. To be called before an optimizer or DistributedDataParallel gets it.
        modules: names as in ``named_modules``; these stay in evaluation mode whenever the network runs.
        parameters: names as in ``named_parameters``.

    Raises:
        ValueError: for a name that the network lacks.
    """
    known_modules, known_parameters = dict(network.named_modules()), dict(network.named_parameters())
    if lost := [name for name in modules if name not in known_modules]:
        raise ValueError(f"the network has no module {', '.join(lost)}")
    if lost := [name for name in parameters if name not in known_parameters]:
        raise ValueError(f"the network has no parameter {', '.join(lost)}")
    for name in modules:
        known_modules[name].requires_grad_(False).eval()
        for module in known_modules[name].modules():
            module.register_forward_pre_hook(_stay_in_evaluation)
    for name in parameters:
        known_parameters[name].requires_grad_(False)
    return network


def _stay_in_evaluation(module: nn.Module, _inputs: tuple) -> None:
    """Undoes the ``train()`` that engines call on the whole network."""
    if module.training:
        module.eval()
