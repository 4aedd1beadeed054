"""Calls of the operators for the tests: random inputs, seeded, with step sizes as in a trained network."""

from __future__ import annotations

from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor

import custom_networks.ops as ops
from custom_networks.ops import _traceable, functional
from custom_networks.ops.backend import BACKENDS, availability, offers

OPERATORS = ("selective_scan", "ssd_scan", "causal_conv1d")

# What runs during export is tested like one more backend.
TESTED = [*(name for name in BACKENDS if name != "reference"), "traceable"]

# All that can be switched on; tensors that are not named here are always present.
OPTIONS = {
    "selective_scan": ("D", "z", "delta_bias", "delta_softplus", "initial_state", "return_last_state"),
    "ssd_scan": ("D", "z", "dt_bias", "dt_softplus", "initial_states", "return_final_states"),
    "causal_conv1d": ("bias", "silu", "initial_state", "return_final_state"),
}


@dataclass(frozen=True)
class Case:
    """One call of one operator: its sizes, the options that are on, the direction.

    Sizes are B, D, L, N, G (selective_scan); B, L, H, P, N, G (ssd_scan); B, D, L, W (causal_conv1d).
    """

    operator: str
    sizes: tuple[int, ...]
    options: tuple[str, ...] = ()
    reverse: bool = False

    def __str__(self) -> str:
        parts = ["x".join(map(str, self.sizes)), *self.options, "reverse" if self.reverse else "forward"]
        return "-".join([self.operator, *parts])

    def inputs(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> dict[str, Tensor]:
        """Tensors by argument name; drawn in float64, so that other dtypes are roundings of the same numbers."""
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        def step_sizes(*shape: int) -> Tensor:
            size = 10 ** (-3 + 2.7 * torch.rand(shape, generator=generator, dtype=torch.float64))
            return torch.log(torch.expm1(size)) if "softplus" in "".join(self.options) else size

        tensors = {
            "selective_scan": _selective_scan,
            "ssd_scan": _ssd_scan,
            "causal_conv1d": _causal_conv1d,
        }[self.operator](normal, step_sizes, *self.sizes)
        absent = set(OPTIONS[self.operator]) - set(self.options)
        return {name: x.to(device, dtype) for name, x in tensors.items() if name not in absent}

    def settings(self) -> dict[str, object]:
        """Arguments that are not tensors."""
        settings: dict[str, object] = {"reverse": self.reverse}
        if self.operator == "causal_conv1d":
            settings["activation"] = "silu" if "silu" in self.options else None
        flags = [name for name in self.options if "softplus" in name or "return" in name]
        return settings | dict.fromkeys(flags, True)


def everything(operator: str, *sizes: int, reverse: bool = False) -> Case:
    """A case with every option on."""
    return Case(operator, sizes, OPTIONS[operator], reverse)


def _selective_scan(normal, step_sizes, batch, channels, length, states, groups=1):
    return {
        "u": normal(batch, channels, length),
        "delta": step_sizes(batch, channels, length),
        "A": -torch.exp(1.5 * normal(channels, states)),
        "B": normal(batch, groups, states, length),
        "C": normal(batch, groups, states, length),
        "D": normal(channels),
        "z": normal(batch, channels, length),
        "delta_bias": 0.1 * normal(channels).abs(),
        "initial_state": normal(batch, channels, states),
    }


def _ssd_scan(normal, step_sizes, batch, length, heads, width, states, groups=1):
    return {
        "x": normal(batch, length, heads, width),
        "dt": step_sizes(batch, length, heads),
        "A": -torch.exp(normal(heads)),
        "B": normal(batch, length, groups, states),
        "C": normal(batch, length, groups, states),
        "D": normal(heads, width) if heads % 2 else normal(heads),
        "z": normal(batch, length, heads, width),
        "dt_bias": 0.1 * normal(heads).abs(),
        "initial_states": normal(batch, heads, width, states),
    }


def _causal_conv1d(normal, _, batch, channels, length, width):
    return {
        "x": normal(batch, channels, length),
        "weight": normal(channels, width),
        "bias": normal(channels),
        "initial_state": normal(batch, channels, width - 1),
    }


def why_not(backend: str, operator: str) -> str:
    """Why this machine cannot test ``operator`` of ``backend``; empty if it can."""
    if backend == "traceable":
        return ""
    usable, reason = availability(backend)
    if not usable:
        return f"backend {backend}: {reason}"
    return "" if offers(backend, operator) else f"backend {backend} has no {operator}"


def device_of(backend: str) -> str:
    """Where the tests of ``backend`` run."""
    devices = BACKENDS[backend].devices if backend in BACKENDS else None
    return "cpu" if devices is None or "cpu" in devices else "cuda"


def run(backend: str, operator: str, tensors: dict[str, Tensor], settings: dict[str, object]) -> tuple[Tensor, ...]:
    """Outputs of the public function on ``backend``."""
    function = getattr(ops, operator)
    if backend == "traceable":
        with mock.patch.object(functional, "resolve", lambda name, device: getattr(_traceable, name)):
            outputs = function(**tensors, **settings)
    else:
        ops.set_backend(backend)
        try:
            outputs = function(**tensors, **settings)
        finally:
            ops.set_backend("auto")
    return outputs if isinstance(outputs, tuple) else (outputs,)


def outputs_and_gradients(
    backend: str, operator: str, tensors: dict[str, Tensor], settings: dict[str, object]
) -> dict[str, Tensor]:
    """Outputs, and gradients of a random weighting of all of them, by name."""
    leaves = {name: x.detach().clone().requires_grad_() for name, x in tensors.items()}
    outputs = run(backend, operator, leaves, settings)
    generator = torch.Generator().manual_seed(1)
    # Weights that bfloat16 can hold, so that the gradient that enters is the same for all dtypes.
    weights = [torch.randn(y.shape, generator=generator).bfloat16().double().to(y.device) for y in outputs]
    loss = sum((y.double() * weight).sum() for y, weight in zip(outputs, weights, strict=True))
    gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    return {f"output {i}": y.detach() for i, y in enumerate(outputs)} | {
        f"gradient of {name}": gradient for name, gradient in zip(leaves, gradients, strict=True)
    }


def error(ours: Tensor, theirs: Tensor) -> float:
    """Relative error in the Euclidean norm; a root mean square below 0.1 counts as 0.1."""
    ours, theirs = ours.detach().cpu().double(), theirs.detach().cpu().double()
    return ((ours - theirs).norm() / theirs.norm().clamp_min(0.1 * max(1, theirs.numel()) ** 0.5)).item()
