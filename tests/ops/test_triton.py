"""Triton kernels without a GPU, in processes of their own: interpreted for their numbers, compiled for their resources.

Interpreted kernels cannot be compiled in the same process. Numbers on a GPU are a matter of the tests that run over all
backends, for instance ``test_agreement.py``: they take ``triton`` up where there is a CUDA device. What only a GPU can
show is marked ``gpu`` here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import custom_networks.ops as ops
from tests.ops.cases import OPERATORS, everything, outputs_and_gradients, run

_ROOT = Path(__file__).parents[2]
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed; `make test` does it on x86-64 Linux"
)

# Most registers of a thread. 65536 of them are shared by all programs on a processor: of the sequential kernels, of one
# warp each, twelve programs fit; of `gradients`, of two warps, five.
_REGISTERS = {"scan": 168, "adjoint": 168, "gradients": 200, "convolve": 96, "compose": 64, "pass_states": 96}
# The calls of `triton_ahead_of_time` that cover every kernel in both precisions; that module compiles all of them.
_COMPILED = {
    90: (
        "selective scan, bf16, N 16",
        "selective scan, bf16, N 64",
        "selective scan, fp32, N 16, two directions",
        "SSD scan, bf16, P 64, N 128",
        "convolution, bf16, W 4, silu",
        "convolution, fp32, W 8, silu",
    ),
    80: ("selective scan, bf16, N 16", "SSD scan, bf16, P 64, N 128", "convolution, bf16, W 4, silu"),
}


def _python(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=_ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=800,
    )


@needs_triton
@pytest.mark.slow
def test_interpreted_kernels():
    chosen = "triton_interpreted or (triton and (huge or nan_and_infinity))"
    files = ("tests/ops/triton_interpreted.py", "tests/ops/test_numerics.py")
    result = _python("pytest", "-q", "-p", "no:cacheprovider", *files, "-k", chosen, TRITON_INTERPRET="1")
    assert result.returncode == 0, result.stdout
    assert "skipped" not in result.stdout


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> list[dict]:
    """What the compiler says about each kernel of each call on each target."""
    lines = []
    for capability, calls in _COMPILED.items():
        result = _python(
            *("tests.ops.triton_ahead_of_time", str(capability), *calls),
            TRITON_INTERPRET="0",
            TRITON_CACHE_DIR=str(tmp_path_factory.mktemp("triton")),
        )
        assert result.returncode == 0, result.stderr
        lines += [json.loads(line) for line in result.stdout.splitlines()]
    return lines


@needs_triton
@pytest.mark.slow
def test_all_kernels_compile(compiled):
    found = {(line["kernel"], line["capability"]) for line in compiled}
    kernels = {name for name, _ in found}
    assert kernels >= {"scan", "compose", "adjoint", "gradients", "spread_rows", "sum_rows"}
    assert kernels >= {"convolve", "convolve_back", "inner_products", "outer_products", "pass_states", "outputs"}
    assert kernels >= {"output_gradients", "input_gradients", "decay_gradients", "row_gradients"}
    assert found == {(name, capability) for name in kernels for capability in _COMPILED}


@needs_triton
@pytest.mark.slow
def test_no_register_is_spilled(compiled):
    assert [line for line in compiled if line["stack"]] == []


@needs_triton
@pytest.mark.slow
def test_registers_and_shared_memory_leave_room(compiled):
    shared = {90: 227 * 1024, 80: 163 * 1024}
    for line in compiled:
        assert line["shared"] <= shared[line["capability"]] // 2, line
        if line["capability"] == 90:
            assert line["registers"] <= _REGISTERS.get(line["kernel"], 255), line


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestOnGpu:
    def test_is_chosen_by_itself(self):
        assert ops.backend_info()["auto"]["cuda"] == "triton"

    @pytest.mark.parametrize("operator", OPERATORS)
    def test_runs_repeat_bit_for_bit(self, operator):
        sizes = {
            "selective_scan": (2, 130, 300, 16),
            "ssd_scan": (2, 300, 4, 64, 64),
            "causal_conv1d": (2, 130, 300, 4),
        }
        case = everything(operator, *sizes[operator])
        tensors = case.inputs(torch.float32, "cuda")
        first, second = (outputs_and_gradients("triton", operator, tensors, case.settings()) for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)

    @pytest.mark.parametrize("operator", OPERATORS)
    def test_no_call_waits_for_the_device(self, operator):
        sizes = {"selective_scan": (1, 64, 900, 16), "ssd_scan": (1, 900, 2, 64, 64), "causal_conv1d": (1, 64, 900, 4)}
        case = everything(operator, *sizes[operator])
        tensors = {name: x.requires_grad_() for name, x in case.inputs(torch.float32, "cuda").items()}

        def step():
            sum(y.float().sum() for y in run("triton", operator, tensors, case.settings())).backward()

        step()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    @pytest.mark.parametrize("length", [64, 65, 4096, 40_000])
    @pytest.mark.parametrize("channels", [64, 4096])
    def test_long_and_short_sequences(self, length, channels):
        # Few channels are split along time, many are not.
        case = everything("selective_scan", 1, channels, length, 16, reverse=True)
        tensors = {name: x.float().cuda() for name, x in case.inputs().items()}
        found = outputs_and_gradients("triton", "selective_scan", tensors, case.settings())
        exact = {name: x.double() for name, x in tensors.items()}
        expected = outputs_and_gradients("torch", "selective_scan", exact, case.settings())
        limit = 1e-5 if length > 4096 else 2e-6
        for name, value in found.items():
            scale = expected[name].norm().clamp_min(0.1 * value.numel() ** 0.5)
            assert (value.double() - expected[name]).norm() / scale <= limit, name
