"""The inside of a mixer as one operator against its parts: numbers, memory, autocast, compilers and exporters."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch import nn
from torch.export import Dim

import custom_networks.ops as ops
from custom_networks.layers.bidirectional_mamba import BidirectionalMamba
from custom_networks.layers.mamba import Mamba
from custom_networks.ops import _mamba_inner, _torch_conv, _torch_selective_scan
from tests.ops.cases import device_of, error, why_not

_BACKENDS = ["native", "torch", "triton"]
_NAMES = ("conv_weight", "conv_bias", "x_proj_weight", "dt_proj_weight", "dt_bias", "A", "D")
# B, L, D, N, R, W
_SIZES = [(1, 1, 1, 1, 1, 1), (2, 2, 3, 5, 2, 4), (1, 65, 17, 16, 1, 4), (2, 130, 8, 3, 3, 3), (1, 63, 33, 4, 2, 7)]


@pytest.fixture(params=_BACKENDS)
def chosen(request):
    if reason := why_not(request.param, "mamba_inner"):
        pytest.skip(reason)
    ops.set_backend(request.param)
    yield request.param
    ops.set_backend("auto")


def _inputs(sizes: tuple[int, ...], dtype: torch.dtype, device: str, seed: int = 0) -> tuple[torch.Tensor, list]:
    """The input and the weights of two directions; drawn in float64, so that other dtypes are roundings of these."""
    batch, length, channels, states, rank, width = sizes
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def weights() -> list[torch.Tensor]:
        return [
            normal(channels, width) / width**0.5,
            0.1 * normal(channels),
            normal(rank + 2 * states, channels) / channels**0.5,
            normal(channels, rank) / rank**0.5,
            normal(channels) - 3,
            -torch.exp(normal(channels, states)),
            normal(channels),
        ]

    def made(x: torch.Tensor) -> torch.Tensor:
        return x.to(device, dtype).requires_grad_()

    return made(normal(batch, length, 2 * channels)), [list(map(made, weights())) for _ in range(2)]


def _both(xz: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
    return ops.bidirectional_mamba_inner(xz, weights[:7], weights[7:])


def _with_gradients(function, leaves, *settings) -> list[torch.Tensor]:
    y = function(*leaves, *settings)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).bfloat16().to(y.device, y.dtype)
    present = [x for x in leaves if x is not None]
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), present)]


def _by_the_loop(function, leaves, *settings) -> list[torch.Tensor]:
    """The same from the reference operators in float64."""
    exact = [None if x is None else x.detach().cpu().double().requires_grad_() for x in leaves]
    with mock.patch("custom_networks.ops.backend._selected", "reference"):
        return _with_gradients(function, exact, *settings)


def _compare(found: list, expected: list, tolerance: float) -> None:
    for position, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert ours.shape == theirs.shape
        assert error(ours, theirs) <= tolerance, f"output or gradient {position}"


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", _SIZES, ids=str)
def test_output_and_gradients_match_the_loop(chosen, sizes, reverse, dtype, tolerance):
    xz, (weights, _) = _inputs(sizes, dtype, device_of(chosen))
    found = _with_gradients(ops.mamba_inner, [xz, *weights], reverse)
    assert all(x.dtype == dtype for x in found)
    _compare(found, _by_the_loop(ops.mamba_inner, [xz, *weights], reverse), tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("sizes", _SIZES, ids=str)
def test_two_directions_match_the_loop(chosen, sizes, dtype, tolerance):
    xz, (weights, others) = _inputs(sizes, dtype, device_of(chosen))
    leaves = [xz, *weights, *others]
    _compare(_with_gradients(_both, leaves), _by_the_loop(_both, leaves), tolerance)


@pytest.mark.parametrize("absent", [("conv_bias",), ("dt_bias",), ("D",), ("conv_bias", "dt_bias", "D")], ids=str)
def test_what_may_be_absent(chosen, absent):
    xz, (weights, others) = _inputs(_SIZES[1], torch.float32, device_of(chosen))
    weights = [None if name in absent else w for name, w in zip(_NAMES, weights, strict=True)]
    leaves = [xz, *weights, *others]
    _compare(_with_gradients(_both, leaves), _by_the_loop(_both, leaves), 5e-6)


def test_bfloat16_is_rounded_where_autocast_would(chosen):
    xz, (weights, others) = _inputs((2, 70, 16, 4, 3, 4), torch.float32, device_of(chosen))
    leaves = [xz.detach().bfloat16().requires_grad_(), *weights, *others]
    found = _with_gradients(_both, leaves)
    assert [x.dtype for x in found] == [torch.bfloat16, *(x.dtype for x in leaves)]
    _compare(found, _by_the_loop(_both, leaves), 2e-2)


@pytest.mark.parametrize("mixer", [Mamba, BidirectionalMamba])
def test_mixer_under_autocast_equals_its_parts(chosen, mixer):
    torch.manual_seed(0)
    mixer = mixer(16).to(device_of(chosen))
    tokens = torch.randn(2, 70, 16, device=device_of(chosen))

    def outcome() -> list[torch.Tensor]:
        mixer.zero_grad()
        with torch.autocast(device_of(chosen), dtype=torch.bfloat16):
            y = mixer(tokens)
        assert y.dtype == torch.bfloat16
        y.float().square().sum().backward()
        return [y, *(p.grad for p in mixer.parameters())]

    found = outcome()
    with mock.patch("custom_networks.ops.mamba_inner.resolve_beside", return_value=None):
        _compare(found, outcome(), 2e-2)


def test_derivatives_match_differences(chosen):
    xz, (weights, others) = _inputs((1, 5, 2, 2, 1, 3), torch.float64, device_of(chosen))
    assert torch.autograd.gradcheck(_both, (xz, *weights, *others), fast_mode=True)
    assert torch.autograd.gradcheck(lambda *x: ops.mamba_inner(*x, reverse=True), (xz, *weights), fast_mode=True)


def test_second_derivatives_are_refused_by_name(chosen):
    xz, (weights, _) = _inputs(_SIZES[1], torch.float32, device_of(chosen))
    y = ops.mamba_inner(xz, *weights)
    (gradient,) = torch.autograd.grad(y.sum(), xz, create_graph=True)
    with pytest.raises(RuntimeError, match="mamba_inner has no second derivative"):
        gradient.sum().backward()


@pytest.mark.parametrize(("mixer", "allowed"), [(Mamba, 4.0), (BidirectionalMamba, 4.5)])
def test_autograd_keeps_little(chosen, mixer, allowed):
    """Kept in units of the inner width: tokens 0.5, input 2, states 0.25, the output, and small projections."""
    mixer, length = mixer(256).to(device_of(chosen)), 512
    tokens = torch.randn(1, length, 256, device=device_of(chosen), requires_grad=True)
    kept = {}

    def note(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        mixer(tokens)
    for parameter in mixer.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    assert sum(kept.values()) <= allowed * length * 512 * 4


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity_reach_what_comes_after(chosen, bad):
    xz, (weights, _) = _inputs((1, 70, 8, 4, 2, 4), torch.float32, device_of(chosen))
    with torch.no_grad():
        xz[0, 33, 2] = bad
        y = ops.mamba_inner(xz, *weights)
    assert y[:, :33].isfinite().all()
    assert not y[:, 33:].isfinite().all(dim=-1).any()


def test_a_batch_of_none(chosen):
    xz, (weights, others) = _inputs((0, 9, 3, 4, 2, 4), torch.float32, device_of(chosen))
    leaves = [xz, *weights, *others]
    for found, leaf in zip(_with_gradients(_both, leaves)[1:], leaves, strict=True):
        assert torch.equal(found, torch.zeros_like(leaf))


def test_input_of_any_strides(chosen):
    xz, (weights, _) = _inputs((2, 30, 6, 4, 2, 4), torch.float32, device_of(chosen))
    strided = xz.detach().transpose(0, 2).contiguous().transpose(0, 2).requires_grad_()
    for ours, theirs in zip(
        _with_gradients(ops.mamba_inner, [strided, *weights]),
        _with_gradients(ops.mamba_inner, [xz, *weights]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_kernels_that_only_return_tensors():
    plain = _torch_conv.forward, _torch_conv.backward, _torch_selective_scan.forward, _torch_selective_scan.backward
    kernels = _mamba_inner.Kernels.that_return(*plain, _torch_selective_scan.states_shape)
    inner = _mamba_inner.define_bidirectional_mamba_inner("test", kernels)
    xz, (weights, others) = _inputs((2, 40, 6, 4, 2, 4), torch.float32, "cpu")
    leaves = [xz, *weights, *others]
    found = _with_gradients(lambda xz, *weights: inner(xz, weights[:7], weights[7:]), leaves)
    _compare(found, _by_the_loop(_both, leaves), 5e-6)


def test_float16(chosen):
    xz, (weights, others) = _inputs((2, 70, 6, 4, 2, 4), torch.float32, device_of(chosen))
    leaves = [xz.detach().half().requires_grad_(), *weights, *others]
    found = _with_gradients(_both, leaves)
    assert found[0].dtype == torch.float16
    _compare(found, _by_the_loop(_both, leaves), 4e-3)


@pytest.mark.parametrize(
    ("argument", "shape", "message"),
    [
        ("xz", (2, 10, 7), r"xz must have shape \(B, L, 2 D\) = \(2, 10, 6\)"),
        ("xz", (2, 6), "xz must have shape"),
        ("xz", (2, 0, 6), "empty input: L is 0"),
        ("conv_weight", (4, 4), r"conv_weight must have shape \(D, W\) = \(3, 4\)"),
        ("conv_weight", (3, 1, 4), "conv_weight must have shape"),
        ("x_proj_weight", (5, 3), r"x_proj_weight must have shape \(R \+ 2 N, D\) = \(12, 3\)"),
        ("dt_proj_weight", (2, 3), r"dt_proj_weight must have shape \(D, R\)"),
        ("conv_bias", (4,), "conv_bias must have shape"),
        ("dt_bias", (1,), "dt_bias must have shape"),
        ("A", (3,), r"A must have shape \(D, N\)"),
        ("D", (3, 5), "D must have shape"),
    ],
)
def test_shapes_that_do_not_fit(argument, shape, message):
    xz, (weights, others) = _inputs((2, 10, 3, 5, 2, 4), torch.float32, "cpu")
    arguments = {"xz": xz, **dict(zip(_NAMES, weights, strict=True)), argument: torch.zeros(shape)}
    with pytest.raises(ValueError, match=message):
        ops.mamba_inner(**arguments)
    with pytest.raises(ValueError, match=message):
        ops.bidirectional_mamba_inner(arguments["xz"], tuple(arguments[name] for name in _NAMES), others)


def test_dtypes_that_do_not_fit():
    xz, (weights, _) = _inputs((2, 10, 3, 5, 2, 4), torch.float32, "cpu")
    with pytest.raises(TypeError, match="A must be of real floating dtype"):
        ops.mamba_inner(xz, *weights[:5], weights[5].detach().long(), weights[6])


class _Mixers(nn.Module):
    """Both mixers, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mixers = nn.Sequential(Mamba(8, reverse=True), BidirectionalMamba(8))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.mixers(tokens)


def _close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(3, 70, 8, generator=torch.Generator().manual_seed(1))


def test_compiled_whole_forward_and_backward(chosen, tokens):
    module = _Mixers()
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    module(tokens).square().mean().backward()
    expected = {name: p.grad.clone() for name, p in module.named_parameters()}
    module.zero_grad()
    y = compiled(tokens)
    y.square().mean().backward()
    _close(y, module(tokens))
    for name, parameter in module.named_parameters():
        _close(parameter.grad, expected[name])
    other = torch.randn(2, 131, 8)
    _close(compiled(other), module(other))


def test_exported_program_shows_the_parts(chosen, tokens):
    module = _Mixers().eval()
    program = torch.export.export(module, (tokens,), dynamic_shapes=({0: Dim("batch")},))
    called = [str(node.target) for node in program.graph.nodes if "custom_networks" in str(node.target)]
    assert len(called) == 6
    assert not any("inner" in name for name in called)
    other = torch.randn(5, 70, 8)
    _close(program.module()(other), module(other))


@pytest.mark.filterwarnings("ignore")
def test_onnx_runtime_gives_the_same_numbers(tokens, tmp_path):
    pytest.importorskip("onnxscript", reason="the exporter needs onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime", reason="running the exported model needs onnxruntime")
    module = _Mixers().eval()
    path = tmp_path / "mixers.onnx"
    torch.onnx.export(module, (tokens,), path, dynamo=True, dynamic_shapes=({0: Dim("batch")},), verbose=False)
    session = onnxruntime.InferenceSession(path)
    other = torch.randn(5, 70, 8)
    (found,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    with torch.no_grad():
        _close(torch.from_numpy(found), module(other))


@pytest.mark.parametrize("save_states", [False, True])
def test_operator_registration(save_states):
    xz, (weights, others) = _inputs((2, 9, 4, 3, 2, 4), torch.float32, "cpu")
    operators = torch.ops.custom_networks
    torch.library.opcheck(operators.torch_mamba_inner.default, (xz, *weights, False, save_states))
    torch.library.opcheck(operators.torch_bidirectional_mamba_inner.default, (xz, *weights, *others, save_states))
