"""What does not fit is refused with the name of the argument and the shape that was expected."""

from __future__ import annotations

import pytest
import torch

import custom_networks.ops as ops
from tests.ops.cases import everything

_CASES = {
    "selective_scan": everything("selective_scan", 2, 6, 7, 4, 2),
    "ssd_scan": everything("ssd_scan", 2, 7, 4, 3, 5, 2),
    "causal_conv1d": everything("causal_conv1d", 2, 6, 7, 4),
}


def _call(operator: str, **changed: object) -> None:
    case = _CASES[operator]
    getattr(ops, operator)(**case.inputs(torch.float32) | case.settings() | changed)


@pytest.mark.parametrize(
    ("operator", "argument", "shape", "message"),
    [
        ("selective_scan", "u", (6, 7), r"u must have shape \(B, D, L\)"),
        ("selective_scan", "u", (2, 6, 0), "empty input: L is 0|delta must have shape"),
        ("selective_scan", "delta", (2, 7, 6), r"delta must have shape \(B, D, L\) = \(2, 6, 7\), got \(2, 7, 6\)"),
        ("selective_scan", "A", (4, 6), r"A must have shape \(D, N\)"),
        ("selective_scan", "A", (6,), r"A must have shape \(D, N\)"),
        ("selective_scan", "B", (2, 4, 4, 7), "B: 4 groups do not divide 6 channels"),
        ("selective_scan", "B", (2, 1, 4, 7), "B has 1 groups, C has 2"),
        ("selective_scan", "B", (2, 0, 4, 7), "B: 0 groups"),
        ("selective_scan", "C", (2, 2, 5, 7), r"C must have shape \(B, G, N, L\)"),
        ("selective_scan", "C", (2, 2, 4, 7, 1), "C must have shape"),
        ("selective_scan", "D", (1,), r"D must have shape \(D,\) = \(6,\)"),
        ("selective_scan", "z", (1, 6, 7), "z must have shape"),
        ("selective_scan", "delta_bias", (6, 1), "delta_bias must have shape"),
        ("selective_scan", "initial_state", (2, 4, 6), r"initial_state must have shape \(B, D, N\)"),
        ("ssd_scan", "x", (2, 7, 12), r"x must have shape \(B, L, H, P\)"),
        ("ssd_scan", "dt", (2, 7, 3), r"dt must have shape \(B, L, H\)"),
        ("ssd_scan", "A", (4, 5), r"A must have shape \(H,\)"),
        ("ssd_scan", "B", (2, 7, 5), r"B must have shape \(B, L, G, N\)"),
        ("ssd_scan", "C", (2, 7, 1, 5), "C must have shape"),
        ("ssd_scan", "D", (3,), r"D must have shape \(H,\) or \(H, P\)"),
        ("ssd_scan", "D", (4, 4), r"D must have shape \(H,\) or \(H, P\)"),
        ("ssd_scan", "z", (2, 7, 4, 1), "z must have shape"),
        ("ssd_scan", "initial_states", (2, 4, 5, 3), r"initial_states must have shape \(B, H, P, N\)"),
        ("causal_conv1d", "x", (6, 7), r"x must have shape \(B, D, L\)"),
        ("causal_conv1d", "weight", (6, 1, 4), r"weight must have shape \(D, W\)"),
        ("causal_conv1d", "weight", (5, 4), "weight must have shape"),
        ("causal_conv1d", "weight", (6, 0), "empty input: W is 0"),
        ("causal_conv1d", "bias", (5,), "bias must have shape"),
        ("causal_conv1d", "initial_state", (2, 6, 4), r"initial_state must have shape \(B, D, W - 1\) = \(2, 6, 3\)"),
    ],
)
def test_shapes_that_do_not_fit(operator, argument, shape, message):
    with pytest.raises(ValueError, match=message):
        _call(operator, **{argument: torch.zeros(shape)})


def test_groups_that_do_not_divide_heads():
    with pytest.raises(ValueError, match="3 groups do not divide 4 heads"):
        _call("ssd_scan", B=torch.zeros(2, 7, 3, 5), C=torch.zeros(2, 7, 3, 5))


@pytest.mark.parametrize("axis", range(1, 3))
def test_empty_sequences_and_channels(axis):
    shape = [2, 3, 5]
    shape[axis] = 0
    with pytest.raises(ValueError, match="empty input"):
        ops.causal_conv1d(torch.zeros(shape), torch.zeros(shape[1], 4))


def test_empty_scan():
    nothing = torch.zeros(2, 0, 4, 3)
    with pytest.raises(ValueError, match="empty input: L is 0"):
        ops.ssd_scan(nothing, torch.zeros(2, 0, 4), torch.zeros(4), torch.zeros(2, 0, 1, 5), torch.zeros(2, 0, 1, 5))


@pytest.mark.parametrize(("operator", "argument"), [("selective_scan", "A"), ("ssd_scan", "B"), ("causal_conv1d", "x")])
@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
def test_dtypes_that_do_not_fit(operator, argument, dtype):
    tensor = _CASES[operator].inputs()[argument].to(dtype)
    with pytest.raises(TypeError, match=f"{argument} must be of real floating dtype"):
        _call(operator, **{argument: tensor})


def test_what_is_no_tensor():
    with pytest.raises(TypeError, match="D must be a tensor, got float"):
        _call("selective_scan", D=1.0)


def test_tensors_on_different_devices():
    with pytest.raises(ValueError, match="weight is on meta, x on cpu"):
        _call("causal_conv1d", weight=torch.zeros(6, 4, device="meta"))


@pytest.mark.parametrize("activation", ["relu", True, ""])
def test_unknown_activation(activation):
    with pytest.raises(ValueError, match="activation must be None, 'silu' or 'swish'"):
        _call("causal_conv1d", activation=activation)


@pytest.mark.parametrize("chunk_size", [0, -64])
def test_chunk_size_must_be_positive(chunk_size):
    with pytest.raises(ValueError, match="chunk_size must be at least 1"):
        _call("ssd_scan", chunk_size=chunk_size)


@pytest.mark.parametrize("limit", [(0.5, 0.5), (1.0, 0.0), (float("nan"), 1.0)])
def test_limits_of_steps_must_be_a_range(limit):
    with pytest.raises(ValueError, match="dt_limit must be"):
        _call("ssd_scan", dt_limit=limit)


def test_swish_is_silu():
    case = _CASES["causal_conv1d"]
    tensors = case.inputs()
    assert torch.equal(
        ops.causal_conv1d(**tensors, activation="swish"), ops.causal_conv1d(**tensors, activation="silu")
    )


def test_meta_tensors_have_shapes_only():
    case = _CASES["selective_scan"]
    tensors = {name: x.to("meta") for name, x in case.inputs(torch.bfloat16).items()}
    y, last = ops.selective_scan(**tensors, return_last_state=True)
    assert (y.shape, y.dtype, last.shape, last.dtype) == ((2, 6, 7), torch.bfloat16, (2, 6, 4), torch.float32)
