"""A sequence worked on piece by piece, the state handed on, is the sequence worked on at once; limits of steps."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

import custom_networks.ops as ops
from tests.ops.cases import (
    OPERATORS,
    OPTIONS,
    TESTED,
    Case,
    device_of,
    error,
    everything,
    outputs_and_gradients,
    run,
    why_not,
)

_SIZES = {"selective_scan": (2, 6, 75, 5, 2), "ssd_scan": (2, 75, 4, 3, 5, 2), "causal_conv1d": (2, 5, 75, 4)}
_STATE = {"selective_scan": "initial_state", "ssd_scan": "initial_states", "causal_conv1d": "initial_state"}
# Arguments with a time axis, and which axis it is.
_TIME = {
    "selective_scan": {"u": 2, "delta": 2, "B": 3, "C": 3, "z": 2},
    "ssd_scan": {"x": 1, "dt": 1, "B": 1, "C": 1, "z": 1},
    "causal_conv1d": {"x": 2},
}
_BACKENDS = ["reference", *(name for name in TESTED if name != "mamba_ssm")]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cut", [1, 2, 64])
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("backend", _BACKENDS)
def test_pieces_give_the_outputs_and_gradients_of_the_whole(backend, operator, cut, reverse):
    if reason := why_not(backend, operator):
        pytest.skip(reason)
    case = everything(operator, *_SIZES[operator], reverse=reverse)
    leaves = {k: x.requires_grad_() for k, x in case.inputs(torch.float32, device_of(backend)).items()}
    time = 1 if operator == "ssd_scan" else 2

    def piece(start, length, state):
        tensors = {
            k: x.narrow(_TIME[operator][k], start, length) if k in _TIME[operator] else x for k, x in leaves.items()
        }
        return run(backend, operator, tensors | {_STATE[operator]: state}, case.settings())

    length = _SIZES[operator][1 if operator == "ssd_scan" else 2]
    whole = piece(0, length, leaves[_STATE[operator]])
    order = [(cut, length - cut), (0, cut)] if reverse else [(0, cut), (cut, length - cut)]
    first, state = piece(*order[0], leaves[_STATE[operator]])
    second, end = piece(*order[1], state)
    joined = torch.cat([second, first] if reverse else [first, second], time), end

    weights = [torch.randn(y.shape, generator=torch.Generator().manual_seed(4)).to(y.device) for y in whole]
    found, expected = (
        [
            *results,
            *torch.autograd.grad(sum((y * w).sum() for y, w in zip(results, weights, strict=True)), leaves.values()),
        ]
        for results in (joined, whole)
    )
    for name, ours, theirs in zip(["y", "state", *leaves], found, expected, strict=True):
        assert error(ours, theirs) <= 3e-6, name


@pytest.mark.parametrize("reverse", [False, True])
def test_convolution_continues_from_the_inputs_before_it(reverse):
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 3, 9, generator=generator), torch.randn(3, 4, generator=generator)
    y = ops.causal_conv1d(
        x[:, :, :6] if reverse else x[:, :, 3:], weight, None, None, reverse, x[:, :, 6:] if reverse else x[:, :, :3]
    )
    taps = (weight.flip(1) if reverse else weight)[:, None]
    torch.testing.assert_close(y, F.conv1d(x, taps, groups=3))


@pytest.mark.parametrize("channel_last", [False, True])
def test_convolution_with_states_keeps_the_memory_order(channel_last):
    x = torch.randn(2, 9, 3).transpose(1, 2) if channel_last else torch.randn(2, 3, 9)
    y, state = ops.causal_conv1d(x, torch.randn(3, 4), return_final_state=True)
    assert y.stride() == x.stride()
    assert torch.equal(state, x[:, :, -3:])
    # Shorter than the taps: zeros that came before stay part of the state.
    _, state = ops.causal_conv1d(x[:, :, :2], torch.randn(3, 4), return_final_state=True)
    assert torch.equal(state, F.pad(x[:, :, :2], (1, 0)))


@pytest.mark.parametrize("softplus", [False, True])
@pytest.mark.parametrize("limit", [(0.02, 0.2), (0.02, float("inf")), (0.0, 0.2)])
@pytest.mark.parametrize("backend", _BACKENDS)
def test_steps_are_cut_to_their_limits(backend, limit, softplus):
    if reason := why_not(backend, "ssd_scan"):
        pytest.skip(reason)
    options = tuple(name for name in OPTIONS["ssd_scan"] if softplus or name != "dt_softplus")
    case = Case("ssd_scan", (2, 33, 2, 3, 4), options)
    tensors = case.inputs(torch.float32, device_of(backend))
    settings = case.settings() | {"dt_limit": limit}
    found = outputs_and_gradients(backend, "ssd_scan", tensors, settings)

    exact = {name: x.cpu().double() for name, x in tensors.items()}
    step = exact["dt"] + exact["dt_bias"]
    step = F.softplus(step) if softplus else step
    inside = (step >= limit[0]) & (step <= limit[1])
    assert inside.any()
    assert not inside.all()
    cut = {k: x for k, x in exact.items() if k != "dt_bias"} | {"dt": step.clamp(*limit)}
    unlimited = settings | {"dt_softplus": False, "dt_limit": (-1, 9)}
    expected = outputs_and_gradients("reference", "ssd_scan", cut, unlimited)
    slope = torch.sigmoid(exact["dt"] + exact["dt_bias"]) if softplus else 1.0
    gradient = expected["gradient of dt"] * inside * slope
    expected |= {"gradient of dt": gradient, "gradient of dt_bias": gradient.sum((0, 1))}
    for name, value in found.items():
        assert error(value, expected[name]) <= 1e-5, name


def test_limits_hold_under_autocast():
    case = everything("ssd_scan", 1, 9, 2, 3, 4)
    call = partial(ops.ssd_scan, **case.inputs(torch.float32) | case.settings(), dt_limit=(0.01, 0.1))
    plain = call()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = call()
    assert all(torch.equal(a, b) for a, b in zip(plain, inside, strict=True))
