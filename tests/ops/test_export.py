"""Compilers and exporters: one opaque node with the right shapes, or plain tensor operations for ONNX."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.export import Dim

import custom_networks.ops as ops
from tests.ops.cases import OPERATORS, everything, why_not

_COMPILED = ["native", "torch"]


class Block(nn.Module):
    """All three operators one after the other, on channel-last rows."""

    def __init__(self, channels: int = 8, states: int = 4, directions: tuple[bool, ...] = (False, True)) -> None:
        super().__init__()
        self.directions = directions
        torch.manual_seed(0)
        self.taps = nn.Parameter(torch.randn(channels, 4) / 2)
        self.projection = nn.Linear(channels, 2 * states + 2)
        self.A = nn.Parameter(-torch.rand(channels, states))
        self.A_heads = nn.Parameter(-torch.rand(2))
        self.D = nn.Parameter(torch.randn(channels))
        self.states = states

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        x = ops.causal_conv1d(rows.transpose(1, 2), self.taps, activation="silu")
        B, C, steps = self.projection(x.transpose(1, 2)).split([self.states, self.states, 2], dim=-1)
        y = x
        for reverse in self.directions:
            y = ops.selective_scan(
                y, x, self.A, B.transpose(1, 2), C.transpose(1, 2), self.D, delta_softplus=True, reverse=reverse
            )
        y = y.transpose(1, 2).unflatten(2, (2, -1))
        for reverse in self.directions:
            y = ops.ssd_scan(y, steps, self.A_heads, B.unsqueeze(2), C.unsqueeze(2), dt_softplus=True, reverse=reverse)
        return y.flatten(2)


@pytest.fixture(params=_COMPILED)
def chosen(request):
    if reason := next(filter(None, (why_not(request.param, operator) for operator in OPERATORS)), ""):
        pytest.skip(reason)
    ops.set_backend(request.param)
    yield request.param
    ops.set_backend("auto")


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.randn(3, 70, 8, generator=torch.Generator().manual_seed(1))


def _close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())


@pytest.mark.parametrize(("dynamic", "strict"), [("batch", False), ("batch and length", True)])
def test_exported_program_takes_other_sizes(chosen, rows, dynamic, strict):
    block = Block(directions=(True,)).eval()
    sizes = {0: Dim("batch")} if dynamic == "batch" else {0: Dim("batch"), 1: Dim("length")}
    program = torch.export.export(block, (rows,), dynamic_shapes=(sizes,), strict=strict)
    called = [str(node.target) for node in program.graph.nodes if "custom_networks" in str(node.target)]
    assert len(called) == 3
    other = torch.randn(5, 70 if dynamic == "batch" else 131, 8)
    _close(program.module()(other), block(other))


_FRESH = """
import sys, torch
import custom_networks.ops
program = torch.export.load(sys.argv[1]).module()
torch.save(program(torch.load(sys.argv[2], weights_only=True)), sys.argv[3])
"""


def test_saved_program_runs_in_a_process_that_imported_the_operators_alone(chosen, rows, tmp_path):
    block = Block(directions=(True,)).eval()
    torch.export.save(torch.export.export(block, (rows,)), tmp_path / "block.pt2")
    torch.save(rows, tmp_path / "rows.pt")
    files = [str(tmp_path / name) for name in ("block.pt2", "rows.pt", "y.pt")]
    subprocess.run([sys.executable, "-c", _FRESH, *files], check=True, timeout=120)
    _close(torch.load(tmp_path / "y.pt", weights_only=True), block(rows).detach())


_FIRST_CALL = """
import sys, torch
import custom_networks.ops as ops
u = torch.randn(1, 3, 9, requires_grad=True)
ops.selective_scan(u, u, -torch.ones(3, 2), u[:, :2], u[:, :2]).sum().backward()
assert "torch._dynamo" not in sys.modules, "a plain call must not import the compiler"
"""


def test_first_call_does_not_import_the_compiler():
    subprocess.run([sys.executable, "-c", _FIRST_CALL], check=True, timeout=120)


def test_exported_program_can_be_trained(chosen, rows):
    block = Block(directions=(True,))
    program = torch.export.export(block, (rows,)).module()
    block(rows).square().mean().backward()
    expected = {name: p.grad.clone() for name, p in block.named_parameters()}
    block.zero_grad()
    program(rows).square().mean().backward()
    for name, parameter in program.named_parameters():
        _close(parameter.grad, expected[name])


def test_compiled_whole_forward_and_backward(chosen, rows):
    block = Block(directions=(True,))
    torch._dynamo.reset()
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    block(rows).square().mean().backward()
    expected = {name: p.grad.clone() for name, p in block.named_parameters()}
    block.zero_grad()
    y = compiled(rows)
    y.square().mean().backward()
    _close(y, block(rows))
    for name, parameter in block.named_parameters():
        _close(parameter.grad, expected[name])
    # Another length and batch: recompiled or not, the result is right.
    other = torch.randn(2, 131, 8)
    _close(compiled(other), block(other))


@pytest.mark.parametrize("operator", OPERATORS)
def test_operator_registration_of_backend_torch(operator):
    from custom_networks.ops import _torch  # noqa: F401  registers

    sizes = {"selective_scan": (2, 4, 9, 3, 2), "ssd_scan": (2, 9, 4, 3, 5, 2), "causal_conv1d": (2, 4, 9, 3)}[operator]
    tensors = {k: x.requires_grad_() for k, x in everything(operator, *sizes).inputs(torch.float32).items()}
    order = {
        "selective_scan": ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state"),
        "ssd_scan": ("x", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_states"),
        "causal_conv1d": ("x", "weight", "bias"),
    }[operator]
    arguments = [tensors[name] for name in order]
    if operator == "selective_scan":
        for i in (0, 1, 6):
            arguments[i] = arguments[i].detach().transpose(1, 2).contiguous().requires_grad_()
        for i in (3, 4):
            arguments[i] = arguments[i].detach().permute(0, 3, 1, 2).contiguous().requires_grad_()
    if operator == "causal_conv1d":
        arguments[0] = arguments[0].detach().transpose(1, 2).contiguous().requires_grad_()
    flags = (True, False) if operator != "ssd_scan" else (True, False, 4)
    target = getattr(torch.ops.custom_networks, f"torch_{operator}").default
    for switch in [()] if operator == "causal_conv1d" else [(False,), (True,)]:
        torch.library.opcheck(target, (*arguments, *flags, *switch))


def _written_out(block: nn.Module, rows: torch.Tensor, sizes: dict | None) -> torch.export.ExportedProgram:
    with torch.no_grad(), ops.using_backend("reference"):
        return torch.export.export(block, (rows,), dynamic_shapes=None if sizes is None else (sizes,))


def _loops(program: torch.export.ExportedProgram) -> int:
    return sum(node.target is torch.ops.higher_order.scan for node in program.graph.nodes)


def test_reference_is_exported_as_one_loop_a_scan_whatever_the_length(rows):
    block = Block().eval()
    short, long = (_written_out(block, torch.randn(2, length, 8), None) for length in (5, 300))
    assert not [node for node in short.graph.nodes if "custom_networks" in str(node.target)]
    # Two selective and two SSD scans, one of each in reverse.
    assert _loops(short) == _loops(long) == 4
    assert len(short.graph.nodes) == len(long.graph.nodes)
    _close(long.module()(rows[:2].repeat(1, 5, 1)[:, :300]), block(rows[:2].repeat(1, 5, 1)[:, :300]))


def test_exported_loops_can_be_trained(rows):
    block = Block(directions=(True,))
    with ops.using_backend("reference"):
        program = torch.export.export(block, (rows[:1, :9],)).module()
    block(rows[:1, :9]).square().mean().backward()
    expected = {name: p.grad.clone() for name, p in block.named_parameters()}
    block.zero_grad()
    program(rows[:1, :9]).square().mean().backward()
    for name, parameter in program.named_parameters():
        _close(parameter.grad, expected[name])


@pytest.mark.filterwarnings("ignore")
def test_onnx_runtime_takes_other_batches_and_lengths(rows, tmp_path):
    pytest.importorskip("onnxscript", reason="the exporter needs onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime", reason="running the exported model needs onnxruntime")
    block = Block().eval()
    sizes = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    program = torch.onnx.export(block, (rows,), dynamo=True, opset_version=20, dynamic_shapes=(sizes,), verbose=False)
    nodes = [node.op_type for node in program.model.graph]
    assert nodes.count("Scan") == 4
    assert nodes.count("Conv") == 1
    program.save(tmp_path / "block.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "block.onnx")
    for batch, length in ((1, 1), (3, 64), (2, 131)):
        other = torch.randn(batch, length, 8)
        (found,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
        with torch.no_grad():
            _close(torch.from_numpy(found), block(other))
