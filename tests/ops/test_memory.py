"""Memory order of results, no copies of channel-last inputs, and nothing the size of all states."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from custom_networks.ops import _torch_selective_scan, _torch_ssd
from tests.ops.cases import TESTED, Case, device_of, error, everything, outputs_and_gradients, run, why_not

_BACKENDS = ["reference", *(name for name in TESTED if name != "traceable")]


def _channel_last(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2).contiguous().transpose(1, 2)


@pytest.mark.parametrize("operator", ["selective_scan", "causal_conv1d"])
@pytest.mark.parametrize("backend", _BACKENDS)
def test_results_keep_the_memory_order_of_the_input(backend, operator):
    if reason := why_not(backend, operator):
        pytest.skip(reason)
    case = everything(operator, *{"selective_scan": (2, 3, 9, 4), "causal_conv1d": (2, 3, 9, 4)}[operator])
    tensors = case.inputs(torch.float32, device_of(backend))
    name = "u" if operator == "selective_scan" else "x"
    first = run(backend, operator, tensors, case.settings())[0]
    last = run(backend, operator, tensors | {name: _channel_last(tensors[name])}, case.settings())[0]
    assert first.is_contiguous()
    assert last.transpose(1, 2).is_contiguous()
    assert torch.allclose(first, last, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("backend", _BACKENDS)
def test_selective_scan_of_views_as_a_block_makes_them(backend, reverse):
    if reason := why_not(backend, "selective_scan"):
        pytest.skip(reason)
    case = everything("selective_scan", 2, 6, 21, 4, 2, reverse=reverse)
    tensors = case.inputs(torch.float32, device_of(backend))
    # u and z are halves of one projection, B and C columns of another; delta is every second row; D is expanded.
    halves = torch.cat([tensors["u"], tensors["z"]], dim=1).transpose(1, 2).contiguous().transpose(1, 2)
    columns = torch.cat([tensors[name].flatten(1, 2) for name in "BC"], dim=1).transpose(1, 2).contiguous()
    rows = torch.stack([tensors["delta"], tensors["delta"] + 7], dim=-1).transpose(1, 2).contiguous()
    views = tensors | {
        "u": halves[:, :6],
        "z": halves[:, 6:],
        "B": columns[..., :8].transpose(1, 2).unflatten(1, (2, 4)),
        "C": columns[..., 8:].transpose(1, 2).unflatten(1, (2, 4)),
        "delta": rows[..., 0].transpose(1, 2),
        "D": tensors["D"][:1].expand(6),
    }
    tensors["D"] = tensors["D"][:1].repeat(6)
    found = run(backend, "selective_scan", views, case.settings())
    expected = run("reference", "selective_scan", {k: x.cpu() for k, x in tensors.items()}, case.settings())
    for ours, theirs in zip(found, expected, strict=True):
        assert error(ours, theirs) <= 1e-6


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("backend", _BACKENDS)
def test_ssd_scan_of_views_as_a_block_makes_them(backend, reverse):
    if reason := why_not(backend, "ssd_scan"):
        pytest.skip(reason)
    case = everything("ssd_scan", 2, 21, 4, 3, 5, 2, reverse=reverse)
    tensors = case.inputs(torch.float32, device_of(backend))
    joined = torch.cat([tensors[name].flatten(2) for name in ("x", "B", "C", "dt")], dim=2)
    views = dict(zip(("x", "B", "C", "dt"), joined.split([12, 10, 10, 4], dim=2), strict=True))
    views = tensors | {
        "x": views["x"].unflatten(2, (4, 3)),
        "B": views["B"].unflatten(2, (2, 5)),
        "C": views["C"].unflatten(2, (2, 5)),
        "dt": views["dt"],
        "z": tensors["z"].transpose(1, 3).contiguous().transpose(1, 3),
    }
    found = run(backend, "ssd_scan", views, case.settings())
    expected = run("reference", "ssd_scan", {k: x.cpu() for k, x in tensors.items()}, case.settings())
    for ours, theirs in zip(found, expected, strict=True):
        assert error(ours, theirs) <= 1e-6


class _LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor made."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(x, torch.Tensor):
                self.elements = max(self.elements, x.untyped_storage().nbytes() // x.element_size())
        return result


def test_backend_torch_never_holds_all_states_of_a_selective_scan():
    batch, channels, length, states = 2, 64, 2048, 16
    case = everything("selective_scan", batch, channels, length, states)
    tensors = case.inputs(torch.float32)
    u, delta, z = (tensors[name].transpose(1, 2) for name in ("u", "delta", "z"))
    arguments = u, delta, tensors["A"], *(tensors[name].permute(0, 3, 1, 2) for name in "BC"), tensors["D"], z
    arguments += tensors["delta_bias"], tensors["initial_state"]
    with torch.no_grad(), _LargestTensor() as seen:
        out, last, kept = _torch_selective_scan.forward(*arguments, True, False, True)
        _torch_selective_scan.backward(out, last, *arguments, kept, True, False)
    assert seen.elements <= batch * channels * length * states / 4
    assert kept.numel() <= u.numel() / 4


def test_backend_torch_never_holds_all_states_of_an_ssd_scan():
    batch, length, heads, width, states = 1, 4096, 4, 32, 64
    case = Case("ssd_scan", (batch, length, heads, width, states))
    tensors = case.inputs(torch.float32)
    arguments = *(tensors[name] for name in ("x", "dt", "A", "B", "C")), None, None, None, None
    with torch.no_grad(), _LargestTensor() as seen:
        out, last, kept = _torch_ssd.forward(*arguments, False, False, 64, True)
        _torch_ssd.backward(out, last, *arguments, kept, False, False, 64)
    assert seen.elements <= batch * length * heads * width * states / 16
    assert kept.numel() <= tensors["x"].numel() / 4


@pytest.mark.parametrize("operator", ["selective_scan", "ssd_scan"])
@pytest.mark.parametrize("backend", [name for name in _BACKENDS if name not in ("reference", "mamba_ssm")])
def test_autograd_keeps_little_more_than_the_inputs(backend, operator):
    if reason := why_not(backend, operator):
        pytest.skip(reason)
    sizes = {"selective_scan": (1, 32, 2048, 16), "ssd_scan": (1, 2048, 4, 32, 64)}[operator]
    case = everything(operator, *sizes)
    leaves = {k: x.requires_grad_() for k, x in case.inputs(torch.float32, device_of(backend)).items()}
    kept: dict[int, int] = {}

    def note(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        outputs = run(backend, operator, leaves, case.settings())
    given = sum(x.untyped_storage().nbytes() for x in leaves.values())
    assert sum(kept.values()) <= given + 1.1 * outputs[0].untyped_storage().nbytes()


@pytest.mark.parametrize("operator", ["selective_scan", "ssd_scan", "causal_conv1d"])
@pytest.mark.parametrize("backend", _BACKENDS)
def test_gradients_of_part_of_the_inputs(backend, operator):
    if reason := why_not(backend, operator):
        pytest.skip(reason)
    case = everything(
        operator,
        *{"selective_scan": (1, 3, 9, 4), "ssd_scan": (1, 9, 3, 4, 5), "causal_conv1d": (1, 3, 9, 4)}[operator],
    )
    tensors = case.inputs(torch.float32, device_of(backend))
    expected = outputs_and_gradients(backend, operator, tensors, case.settings())
    name = {"selective_scan": "B", "ssd_scan": "C", "causal_conv1d": "weight"}[operator]
    leaf = tensors[name].clone().requires_grad_()
    # Only the first output is used: no gradient arrives at the last state.
    first = run(backend, operator, tensors | {name: leaf}, case.settings())[0]
    (gradient,) = torch.autograd.grad(first.square().sum(), leaf)
    assert gradient.isfinite().all()
    assert gradient.shape == expected[f"gradient of {name}"].shape


@pytest.mark.parametrize("operator", ["selective_scan", "ssd_scan", "causal_conv1d"])
@pytest.mark.parametrize("backend", [name for name in _BACKENDS if name != "mamba_ssm"])
def test_a_batch_of_none(backend, operator):
    if reason := why_not(backend, operator):
        pytest.skip(reason)
    sizes = {"selective_scan": (0, 3, 9, 4), "ssd_scan": (0, 9, 3, 4, 5), "causal_conv1d": (0, 3, 9, 4)}[operator]
    case = everything(operator, *sizes)
    tensors = case.inputs(torch.float32, device_of(backend))
    found = outputs_and_gradients(backend, operator, tensors, case.settings())
    assert found["output 0"].shape[0] == 0
    for name, x in tensors.items():
        assert torch.equal(found[f"gradient of {name}"], torch.zeros_like(x))
