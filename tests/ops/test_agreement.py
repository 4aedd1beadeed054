"""Every backend against the loop over time: outputs, states and all gradients."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest
import torch

from tests.ops.cases import (
    OPERATORS,
    OPTIONS,
    TESTED,
    Case,
    device_of,
    error,
    everything,
    outputs_and_gradients,
    why_not,
)

SIZES = {
    "selective_scan": [
        (1, 1, 1, 1),
        (2, 3, 2, 5),
        (1, 17, 63, 16),
        (2, 1, 64, 5),
        (1, 3, 65, 1),
        (1, 17, 127, 5),
        (2, 6, 65, 5, 3),
        (1, 40, 33, 16, 2),
        (1, 4, 3, 4, 4),
        (1, 33, 17, 40),
    ],
    "ssd_scan": [
        (1, 1, 1, 1, 1),
        (2, 2, 3, 5, 3),
        (1, 63, 2, 17, 16),
        (2, 64, 1, 3, 5),
        (1, 65, 3, 1, 1),
        (1, 127, 2, 8, 64),
        (2, 65, 6, 3, 5, 3),
        (1, 33, 4, 16, 16, 2),
    ],
    "causal_conv1d": [
        (1, 1, 1, 4),
        (2, 3, 2, 4),
        (1, 17, 63, 3),
        (2, 1, 64, 2),
        (1, 3, 65, 1),
        (1, 40, 127, 4),
        (2, 5, 3, 7),
    ],
}
# A size at which options are switched one by one: odd, several groups, longer than a chunk.
_TYPICAL = {"selective_scan": (2, 6, 37, 5, 2), "ssd_scan": (2, 70, 4, 3, 5, 2), "causal_conv1d": (2, 5, 37, 4)}


def _cases() -> list:
    """Each size in both precisions with everything on; each option alone in float32."""
    cases = []
    for operator, reverse in product(OPERATORS, (False, True)):
        for sizes, dtype in product(SIZES[operator], (torch.float32, torch.float64)):
            cases.append((everything(operator, *sizes, reverse=reverse), dtype))
            if operator == "causal_conv1d":
                cases.append((Case(operator, sizes, ("bias", "silu"), reverse), dtype))
        for options in [(), *((option,) for option in OPTIONS[operator])]:
            cases.append((Case(operator, _TYPICAL[operator], options, reverse), torch.float32))
    return [pytest.param(case, dtype, id=f"{case}-{str(dtype)[6:]}") for case, dtype in cases]


@cache
def _expected(case: Case) -> dict[str, torch.Tensor]:
    return outputs_and_gradients("reference", case.operator, case.inputs(), case.settings())


@pytest.mark.parametrize(("case", "dtype"), _cases())
@pytest.mark.parametrize("backend", TESTED)
def test_outputs_and_gradients_match_the_loop(backend, case, dtype):
    if reason := why_not(backend, case.operator):
        pytest.skip(reason)
    if backend == "mamba_ssm" and dtype == torch.float64:
        pytest.skip("mamba_ssm has no float64")
    found = outputs_and_gradients(backend, case.operator, case.inputs(dtype, device_of(backend)), case.settings())
    expected = _expected(case)
    # Gradients of parameters are sums of terms of both signs.
    tolerance = {torch.float32: (1e-6, 1e-5), torch.float64: (1e-12, 1e-11)}[dtype]
    for name, value in found.items():
        assert value.dtype == dtype
        assert value.shape == expected[name].shape
        assert error(value, expected[name]) <= tolerance[name.startswith("gradient")], name


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("backend", ["reference", *TESTED])
def test_bfloat16_is_rounded_only_at_the_ends(backend, operator):
    if reason := why_not(backend, operator):
        pytest.skip(reason)
    case = everything(operator, *_TYPICAL[operator])
    rounded = case.inputs(torch.bfloat16, device_of(backend))
    found = outputs_and_gradients(backend, operator, rounded, case.settings())
    exact = outputs_and_gradients(
        "reference", operator, {name: x.cpu().double() for name, x in rounded.items()}, case.settings()
    )
    assert found["output 0"].dtype == torch.bfloat16
    for name, value in found.items():
        assert error(value, exact[name]) <= 3e-3, name
    if operator != "causal_conv1d":
        assert found["output 1"].dtype == torch.float32
        assert error(found["output 1"], exact["output 1"]) <= 1e-6


@pytest.mark.parametrize("backend", ["reference", *TESTED])
@pytest.mark.parametrize("constant", ["B", "C", "BC"])
def test_constant_matrices_equal_repeated_ones(backend, constant):
    if reason := why_not(backend, "selective_scan"):
        pytest.skip(reason)
    case = everything("selective_scan", 2, 3, 9, 5)
    tensors = case.inputs(torch.float32, device_of(backend))
    generator = torch.Generator().manual_seed(2)
    for name in constant:
        tensors[name] = torch.randn(3, 5, generator=generator).to(device_of(backend))
    found = outputs_and_gradients(backend, "selective_scan", tensors, case.settings())

    # With one group a channel, a matrix (D, N) is the same at all times and in all samples.
    spread = {name: x.cpu().double() for name, x in tensors.items()}
    for name in "BC":
        if name in constant:
            spread[name] = spread[name].repeat(2, 1, 1).unsqueeze(-1).repeat(1, 1, 1, 9)
        else:
            spread[name] = spread[name].repeat(1, 3, 1, 1)
    expected = outputs_and_gradients("reference", "selective_scan", spread, case.settings())
    for name in "BC":
        gradient = expected[f"gradient of {name}"]
        summed = gradient.sum((0, 3)) if name in constant else gradient.sum(1, keepdim=True)
        expected[f"gradient of {name}"] = summed
    for name, value in found.items():
        assert error(value, expected[name]) <= 4e-6, name
