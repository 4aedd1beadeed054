"""Tests of the Triton kernels on CPU, by Triton's interpreter.

The kernels must be defined with ``TRITON_INTERPRET=1`` in the environment, so ``test_triton.py`` runs this file in a
process of its own. Sizes are small, for the interpreter takes about a tenth of a millisecond an operation.
"""

from __future__ import annotations

import os

import pytest
import torch

import custom_networks.ops as ops
from custom_networks.ops import _torch, _triton_launch
from tests.ops.cases import Case, error, everything, outputs_and_gradients

assert os.environ.get("TRITON_INTERPRET") == "1", "run through test_triton.py"

_CASES = [
    everything("selective_scan", 1, 6, 66, 3, 2),
    everything("selective_scan", 1, 1, 1, 1, reverse=True),
    everything("selective_scan", 1, 3, 130, 5, reverse=True),
    Case("selective_scan", (1, 9, 65, 2), ("z",)),
    Case("selective_scan", (2, 4, 3, 3, 4), ("delta_softplus",), True),
    everything("ssd_scan", 1, 70, 4, 3, 5, 2),
    everything("ssd_scan", 1, 130, 3, 17, 70, reverse=True),
    Case("ssd_scan", (1, 65, 3, 66, 1, 3)),
    everything("causal_conv1d", 2, 70, 37, 4),
    everything("causal_conv1d", 1, 5, 140, 8, reverse=True),
    Case("causal_conv1d", (1, 3, 2, 1)),
]


@pytest.mark.parametrize("case", _CASES, ids=str)
def test_outputs_and_gradients_match_the_loop(case):
    found = outputs_and_gradients("triton", case.operator, case.inputs(torch.float32), case.settings())
    expected = outputs_and_gradients("reference", case.operator, case.inputs(), case.settings())
    for name, value in found.items():
        assert value.dtype == torch.float32
        assert value.shape == expected[name].shape
        assert error(value, expected[name]) <= (2e-6 if name.startswith("gradient") else 5e-7), name


@pytest.mark.parametrize(
    "case",
    [
        everything("selective_scan", 1, 3, 66, 2, reverse=True),
        everything("ssd_scan", 1, 66, 2, 3, 5, reverse=True),
        Case("causal_conv1d", (2, 5, 37, 4), ("bias", "silu")),
    ],
    ids=str,
)
def test_bfloat16_is_rounded_only_at_the_ends(case):
    rounded = case.inputs(torch.bfloat16)
    found = outputs_and_gradients("triton", case.operator, rounded, case.settings())
    exact = {name: x.double() for name, x in rounded.items()}
    expected = outputs_and_gradients("reference", case.operator, exact, case.settings())
    for name, value in found.items():
        if value.dtype == torch.float32:
            assert error(value, expected[name]) <= 1e-6, name
            continue
        # The interpreter cuts where hardware rounds: each number is off by less than one unit in its last place, and by
        # the float32 error of the sum that it is.
        step = torch.finfo(torch.bfloat16).eps
        allowed = step * expected[name].abs() + 1e-5 * expected[name].square().mean().sqrt()
        assert ((value.double() - expected[name]).abs() <= allowed).all(), name


@pytest.mark.parametrize("threshold", [0, 10**9])
@pytest.mark.parametrize("reverse", [False, True])
def test_split_time_gives_the_same_numbers(threshold, reverse, monkeypatch):
    from custom_networks.ops import _triton_selective_scan

    monkeypatch.setattr(_triton_selective_scan, "PROGRAMS_PER_PROCESSOR", threshold)
    launched = []

    def launch(kernel, *arguments, **options):
        launched.append(kernel.__name__)
        _triton_launch.launch(kernel, *arguments, **options)

    monkeypatch.setattr(_triton_selective_scan, "launch", launch)
    case = everything("selective_scan", 1, 5, 67, 3, reverse=reverse)
    tensors = case.inputs(torch.float32)
    with torch.no_grad():
        found = _run(tensors, case)
    assert launched == (["scan", "compose", "scan"] if threshold else ["scan"])
    expected = _run({name: x.double() for name, x in tensors.items()}, case, "reference")
    for ours, theirs in zip(found, expected, strict=True):
        assert error(ours, theirs) <= 5e-7


def _run(tensors, case, backend="triton"):
    ops.set_backend(backend)
    try:
        return ops.selective_scan(**tensors, **case.settings())
    finally:
        ops.set_backend("auto")


def test_launches_for_blocks_of_channels_add_up(monkeypatch):
    from custom_networks.ops import _triton_selective_scan

    # A small GPU is soon full: each block of eight channels has a launch of its own.
    monkeypatch.setattr(_triton_selective_scan, "processors", lambda device: 0.01)
    case = Case("selective_scan", (1, 20, 3, 2), ("D", "z"))
    found = outputs_and_gradients("triton", case.operator, case.inputs(torch.float32), case.settings())
    expected = outputs_and_gradients("reference", case.operator, case.inputs(), case.settings())
    for name, value in found.items():
        assert error(value, expected[name]) <= 2e-6, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_directions_in_one_launch(dtype, monkeypatch):
    from custom_networks.ops import _triton_selective_scan
    from tests.ops.test_bidirectional import inputs, outcome

    launched = []

    def launch(kernel, *arguments, **options):
        launched.append(kernel.__name__)
        _triton_launch.launch(kernel, *arguments, **options)

    monkeypatch.setattr(_triton_selective_scan, "launch", launch)
    tensors = inputs(batch=1, channels=5, length=67, states=2, groups=1, shared=("u", "z"))
    found = outcome("triton", {name: x.to(dtype) for name, x in tensors.items()})
    expected = outcome("reference", tensors)
    for name, value in found.items():
        assert value.shape == expected[name].shape
        assert error(value, expected[name]) <= {torch.float32: 2e-6, torch.float64: 1e-12}[dtype], name
    if dtype == torch.float32:
        assert [launched.count(name) for name in ("scan", "adjoint", "gradients")] == [2, 1, 1]
    else:
        assert not launched


def test_strided_and_mixed_inputs():
    case = everything("selective_scan", 2, 6, 9, 3)
    tensors = case.inputs(torch.float32)
    # As in a mixer: u and z are halves of one tensor, B and C columns of another; delta is not channel-last at all.
    halves = torch.cat([tensors["u"], tensors["z"]], dim=1).transpose(1, 2).contiguous().transpose(1, 2)
    columns = torch.cat([tensors["B"], tensors["C"]], dim=2).movedim(3, 1).contiguous().movedim(1, 3)
    plain = {name: x.contiguous() for name, x in tensors.items()}
    strided = plain | {"u": halves[:, :6], "z": halves[:, 6:], "B": columns[:, :, :3], "C": columns[:, :, 3:]}
    strided["A"] = strided["A"].bfloat16()
    exact = {name: x.double() for name, x in strided.items()}
    found = outputs_and_gradients("triton", case.operator, strided, case.settings())
    expected = outputs_and_gradients("reference", case.operator, exact, case.settings())
    assert found["gradient of A"].dtype == torch.bfloat16
    for name, value in found.items():
        assert error(value, expected[name]) <= (5e-3 if name.endswith("of A") else 2e-6), name


def test_runs_repeat_bit_for_bit():
    case = everything("selective_scan", 1, 5, 9, 2)
    first, second = (
        outputs_and_gradients("triton", case.operator, case.inputs(torch.float32), case.settings()) for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("operator", ["selective_scan", "ssd_scan", "causal_conv1d"])
def test_registration(operator):
    sizes = {"selective_scan": (1, 1, 2, 1), "ssd_scan": (1, 3, 2, 3, 2), "causal_conv1d": (1, 2, 3, 2)}[operator]
    tensors = everything(operator, *sizes).inputs(torch.float32)
    if operator == "causal_conv1d":
        arguments = [tensors["x"].mT.contiguous(), tensors["weight"], tensors["bias"], True, False]
    elif operator == "ssd_scan":
        order = ("x", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_states")
        arguments = [*(tensors[name] for name in order), True, False, 64, False]
    else:
        rows = {name: tensors[name].mT.contiguous() for name in ("u", "delta", "z")}
        rows |= {name: tensors[name].permute(0, 3, 1, 2).contiguous() for name in "BC"}
        order = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")
        arguments = [*(rows.get(name, tensors[name]) for name in order), True, False, False]
    arguments = [x.requires_grad_() if isinstance(x, torch.Tensor) else x for x in arguments]
    target = getattr(torch.ops.custom_networks, f"triton_{operator}").default
    torch.library.opcheck(target, tuple(arguments))


def test_inside_of_a_mixer():
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 5, 6), (3, 4), (3,), (1 + 4, 3), (3, 1), (3,), (3, 2), (3,)]
    leaves = [torch.randn(shape, generator=generator) / 2 for shape in shapes]
    leaves[6] = -leaves[6].exp()

    def outcome(backend: str, dtype: torch.dtype) -> list[torch.Tensor]:
        made = [x.to(dtype).requires_grad_() for x in leaves]
        ops.set_backend(backend)
        try:
            y = ops.bidirectional_mamba_inner(made[0], tuple(made[1:]), tuple(made[1:]))
        finally:
            ops.set_backend("auto")
        return [y.detach(), *torch.autograd.grad(y.square().sum(), made)]

    for ours, theirs in zip(outcome("triton", torch.float32), outcome("reference", torch.float64), strict=True):
        assert error(ours, theirs) <= 2e-6


def test_float64_and_wide_convolutions_run_in_pytorch(monkeypatch):
    called = []
    for name in ("selective_scan", "ssd_scan", "causal_conv1d"):
        original = getattr(_torch, name)
        monkeypatch.setattr(_torch, name, lambda *a, n=name, f=original, **k: (called.append(n), f(*a, **k))[1])
    ops.set_backend("triton")
    try:
        ops.causal_conv1d(torch.ones(1, 2, 3), torch.ones(2, 9))
        ops.causal_conv1d(torch.ones(1, 2, 3).double(), torch.ones(2, 2))
        case = everything("ssd_scan", 1, 3, 2, 3, 2)
        ops.ssd_scan(**case.inputs(), **case.settings())
    finally:
        ops.set_backend("auto")
    assert called == ["causal_conv1d", "causal_conv1d", "ssd_scan"]
