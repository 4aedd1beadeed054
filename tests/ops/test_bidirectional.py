"""Both directions of the selective scan at once against a scan of flipped tensors."""

from __future__ import annotations

import pytest
import torch

import custom_networks.ops as ops
from custom_networks.ops import _reference
from custom_networks.ops.backend import BACKENDS
from tests.ops.cases import device_of, error, why_not

_IN_TIME = ("u", "delta", "B", "C", "z")


def inputs(batch=2, channels=6, length=9, states=3, groups=2, shared=(), absent=()) -> dict[str, torch.Tensor]:
    """Operands in float64, with an axis of two directions but those that are ``shared``."""
    generator = torch.Generator().manual_seed(0)

    def normal(name: str, *shape: int) -> torch.Tensor:
        shape = shape if name in shared else (2, *shape)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    rows, matrix = (batch, channels, length), (batch, groups, states, length)
    matrix = matrix if groups > 1 else (batch, states, length)
    tensors = {
        "u": normal("u", *rows),
        "delta": normal("delta", *rows) - 2,
        "A": -normal("A", channels, states).exp(),
        "B": normal("B", *matrix),
        "C": normal("C", *matrix),
        "D": normal("D", channels),
        "z": normal("z", *rows),
        "delta_bias": normal("delta_bias", channels) / 4,
    }
    return {name: x for name, x in tensors.items() if name not in absent}


def outcome(backend: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Output, and gradients of a random weighting of it."""
    leaves = {name: x.detach().clone().requires_grad_() for name, x in tensors.items()}
    ops.set_backend(backend)
    try:
        y = ops.bidirectional_selective_scan(**leaves, delta_softplus=True)
    finally:
        ops.set_backend("auto")
    return {"output": y.detach()} | _gradients(y, leaves)


def _gradients(y: torch.Tensor, leaves: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).bfloat16().to(y.device, y.dtype)
    return dict(zip(leaves, torch.autograd.grad((y * weight).sum(), list(leaves.values())), strict=True))


def _by_flips(tensors: dict[str, torch.Tensor], shared: tuple[str, ...]) -> dict[str, torch.Tensor]:
    leaves = {name: x.detach().clone().requires_grad_() for name, x in tensors.items()}
    outputs = []
    for i in range(2):
        end = {name: x if name in shared else x[i] for name, x in leaves.items()}
        if i == 1:
            end |= {name: x.flip(-1) for name, x in end.items() if name in _IN_TIME}
        end |= {name: end[name].unsqueeze(1) for name in "BC" if end[name].dim() == 3}
        y = _reference.selective_scan(**end, delta_softplus=True)
        outputs.append(y.flip(-1) if i == 1 else y)
    y = torch.stack(outputs)
    return {"output": y.detach()} | _gradients(y, leaves)


@pytest.mark.parametrize("shared", [(), ("u", "z"), ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")], ids=str)
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "mamba_ssm"])
def test_equals_a_scan_of_flipped_tensors(backend, shared):
    if reason := why_not(backend, "selective_scan"):
        pytest.skip(reason)
    # A shared matrix has three axes, so no groups.
    tensors = inputs(groups=1 if "B" in shared else 2, shared=shared)
    found = outcome(backend, {name: x.to(device_of(backend)) for name, x in tensors.items()})
    for name, value in _by_flips(tensors, shared).items():
        assert found[name].shape == value.shape
        assert error(found[name], value) <= 1e-12, name


@pytest.mark.parametrize("absent", [("D",), ("z",), ("delta_bias",), ("D", "z", "delta_bias")], ids=str)
def test_what_may_be_absent(absent):
    tensors = inputs(absent=absent)
    found, expected = outcome("auto", tensors), _by_flips(tensors, ())
    for name, value in expected.items():
        assert error(found[name], value) <= 1e-12, name


def test_channel_last_memory_comes_back():
    tensors = inputs()
    tensors["u"] = tensors["u"].transpose(2, 3).contiguous().transpose(2, 3)
    y = ops.bidirectional_selective_scan(**tensors)
    assert y.shape == tensors["u"].shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": torch.ones(3, 2, 6, 9)}, r"u must have 3 axes or a leading axis of 2, got shape \(3, 2, 6, 9\)"),
        ({"delta": torch.ones(2, 2, 6, 8)}, r"delta must have shape \(2, B, D, L\)"),
        ({"A": torch.ones(2, 5, 3)}, r"A must have shape \(2, D, N\)"),
        ({"C": torch.ones(2, 2, 1, 3, 9)}, r"C must have shape \(2, B, G, N, L\)"),
        ({"B": torch.ones(2, 2, 4, 3, 9), "C": torch.ones(2, 2, 4, 3, 9)}, "4 groups do not divide 6 channels"),
        ({"D": torch.ones(2, 5)}, r"D must have shape \(2, D\)"),
    ],
)
def test_wrong_shapes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        ops.bidirectional_selective_scan(**(inputs() | change))


def test_integers_are_refused():
    with pytest.raises(TypeError, match="delta must be of real floating dtype"):
        ops.bidirectional_selective_scan(**(inputs() | {"delta": torch.ones(2, 6, 9, dtype=torch.int64)}))
