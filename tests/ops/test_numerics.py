"""Hard numbers: huge and tiny steps, NaN and infinity, long sequences, autocast, numerical derivatives."""

from __future__ import annotations

import pytest
import torch

from tests.ops.cases import (
    OPERATORS,
    TESTED,
    Case,
    device_of,
    error,
    everything,
    outputs_and_gradients,
    run,
    why_not,
)

_STEPS = {"selective_scan": "delta", "ssd_scan": "dt"}
_INPUT = {"selective_scan": "u", "ssd_scan": "x", "causal_conv1d": "x"}
_SIZES = {"selective_scan": (1, 3, 70, 4), "ssd_scan": (1, 70, 3, 4, 5), "causal_conv1d": (1, 3, 70, 4)}
_ALL = ["reference", *TESTED]


def _inputs(backend: str, case: Case, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    if reason := why_not(backend, case.operator):
        pytest.skip(reason)
    return case.inputs(dtype, device_of(backend))


@pytest.mark.parametrize("largest", [60.0, 1e4])
@pytest.mark.parametrize("operator", ["selective_scan", "ssd_scan"])
@pytest.mark.parametrize("backend", _ALL)
def test_huge_and_tiny_steps(backend, operator, largest):
    case = everything(operator, *_SIZES[operator])
    tensors = _inputs(backend, case)
    steps = tensors[_STEPS[operator]]
    generator = torch.Generator().manual_seed(3)
    # Softplus turns -60 into 1e-26; a decay of zero must not blur the small steps after it.
    extremes = torch.tensor([-60.0, -20.0, -3.0, 3.0, largest])
    steps.copy_(extremes[torch.randint(len(extremes), steps.shape, generator=generator)])
    found = outputs_and_gradients(backend, operator, tensors, case.settings())
    exact = {name: x.cpu().double() for name, x in tensors.items()}
    expected = outputs_and_gradients("reference", operator, exact, case.settings())
    for name, value in found.items():
        assert value.isfinite().all(), name
        assert error(value, expected[name]) <= 1e-5, name


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("backend", _ALL)
def test_nan_and_infinity_are_not_swallowed(backend, operator, bad):
    case = everything(operator, *_SIZES[operator])
    tensors = _inputs(backend, case)
    x = tensors[_INPUT[operator]]
    x[(0, 33, 1, 2) if operator == "ssd_scan" else (0, 1, 33)] = bad
    found = run(backend, operator, tensors, case.settings())
    expected = run("reference", operator, {name: x.cpu() for name, x in tensors.items()}, case.settings())
    # The final state of a convolution is its last inputs.
    for ours, theirs in zip(found[: 1 if operator == "causal_conv1d" else 2], expected, strict=False):
        assert not theirs.isfinite().all()
        assert not (ours.cpu().isfinite() & ~theirs.isfinite()).any()
    # Matrix products of the SSD scan carry a NaN against time, but only within a chunk.
    past = found[0][:, :, :33] if operator != "ssd_scan" else found[0][:, :, [0, 2]]
    assert past.isfinite().all()


@pytest.mark.parametrize("operator", ["selective_scan", "ssd_scan"])
@pytest.mark.parametrize("backend", TESTED)
def test_long_sequences_with_slow_decay_stay_accurate(backend, operator):
    sizes = {"selective_scan": (1, 3, 3000, 4), "ssd_scan": (1, 3000, 2, 3, 4)}[operator]
    case = everything(operator, *sizes)
    tensors = _inputs(backend, case)
    tensors["A"] *= 0.01
    found = outputs_and_gradients(backend, operator, tensors, case.settings())
    exact = {name: x.cpu().double() for name, x in tensors.items()}
    expected = outputs_and_gradients("torch", operator, exact, case.settings())
    for name, value in found.items():
        assert error(value, expected[name]) <= (1e-5 if name.startswith("gradient") else 2e-6), name


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("backend", _ALL)
def test_gradients_match_finite_differences(backend, operator, reverse):
    sizes = {"selective_scan": (1, 4, 5, 2, 2), "ssd_scan": (1, 5, 2, 2, 2), "causal_conv1d": (1, 2, 5, 3)}[operator]
    case = everything(operator, *sizes, reverse=reverse)
    if backend == "mamba_ssm":
        pytest.skip("mamba_ssm has no float64")
    tensors = {name: x.requires_grad_() for name, x in _inputs(backend, case, torch.float64).items()}

    def outputs(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return run(backend, operator, dict(zip(tensors, values, strict=True)), case.settings())

    assert torch.autograd.gradcheck(outputs, tuple(tensors.values()), fast_mode=True)


# Exporters do not run under autocast.
_TRAINED = [backend for backend in _ALL if backend != "traceable"]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("backend", _TRAINED)
def test_autocast_leaves_the_arithmetic_alone(backend, operator):
    case = everything(operator, *_SIZES[operator])
    tensors = _inputs(backend, case)
    plain = outputs_and_gradients(backend, operator, tensors, case.settings())
    with torch.autocast(device_of(backend), dtype=torch.bfloat16):
        inside = outputs_and_gradients(backend, operator, tensors, case.settings())
    for name, value in inside.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, plain[name]), name


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("backend", _TRAINED)
def test_inputs_of_mixed_dtypes_as_they_come_out_of_autocast(backend, operator):
    case = everything(operator, *_SIZES[operator])
    tensors = _inputs(backend, case)
    kept = {"A", "D", "delta_bias", "dt_bias", "initial_state", "initial_states", "weight", "bias"}
    mixed = {name: x if name in kept else x.bfloat16() for name, x in tensors.items()}
    with torch.autocast(device_of(backend), dtype=torch.bfloat16):
        found = outputs_and_gradients(backend, operator, mixed, case.settings())
    exact = {name: x.cpu().double() for name, x in mixed.items()}
    expected = outputs_and_gradients("reference", operator, exact, case.settings())
    assert found["output 0"].dtype == torch.bfloat16
    for name, value in found.items():
        if name.startswith("gradient of "):
            assert value.dtype == mixed[name.removeprefix("gradient of ")].dtype
        assert error(value, expected[name]) <= 3e-3, name
    assert found["output 1"].dtype == (torch.bfloat16 if operator == "causal_conv1d" else torch.float32)


@pytest.mark.parametrize("backend", ["torch", "native", "triton"])
def test_second_derivatives_are_refused_by_name(backend):
    if reason := why_not(backend, "causal_conv1d"):
        pytest.skip(reason)
    x = torch.randn(1, 2, 5, device=device_of(backend), requires_grad=True)
    weight = torch.randn(2, 3, device=device_of(backend))
    (y,) = run(backend, "causal_conv1d", {"x": x, "weight": weight}, {})
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivative"):
        gradient.sum().backward()
