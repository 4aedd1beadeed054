"""The choice of a backend: by name, by environment, by device, and what is said when it cannot be had."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import types

import pytest
import torch

import custom_networks.ops as ops
from custom_networks.ops import backend
from tests.ops.cases import OPTIONS, Case, everything


@pytest.fixture(autouse=True)
def _choice_is_not_remembered():
    """Each test starts and ends with `auto` and an empty memory of what was found."""
    for cached in (backend._find, backend.availability):
        cached.cache_clear()
    yield
    for cached in (backend._find, backend.availability):
        cached.cache_clear()
    ops.set_backend("auto")


def _python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )


def _convolve() -> torch.Tensor:
    return ops.causal_conv1d(torch.ones(1, 2, 3), torch.ones(2, 2))


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown backend 'cuda'; choose from auto, reference, native, torch, triton"):
        ops.set_backend("cuda")
    assert ops.backend_info()["selected"] == "auto"


def test_unavailable_backend_names_the_remedy(monkeypatch):
    broken = types.ModuleType("broken")
    broken.is_available = lambda: (False, "no compiler found")
    monkeypatch.setitem(sys.modules, "custom_networks.ops._native", broken)
    with pytest.raises(RuntimeError, match=r"'native' cannot be used: no compiler found; remedy: install a C\+\+"):
        ops.set_backend("native")
    assert ops.backend_info()["selected"] == "auto"


def test_backend_for_another_device():
    with pytest.raises(RuntimeError, match="'native' serves cpu tensors, got cuda"):
        backend._find("native", "selective_scan", "cuda")


def test_info_describes_every_backend():
    info = ops.backend_info()
    assert set(info["available"]) == set(info["reason"]) == set(backend.BACKENDS)
    assert info["available"]["reference"]
    assert info["available"]["torch"]
    assert info["auto"]["cpu"] in ("native", "torch")
    assert info["auto"]["cuda"] in ("triton", "torch")


def test_auto_passes_over_a_backend_without_the_operator(monkeypatch):
    partial = types.ModuleType("custom_networks.ops._native")
    partial.is_available = lambda: (True, "")
    monkeypatch.setitem(sys.modules, "custom_networks.ops._native", partial)
    assert backend._find("auto", "ssd_scan", "cpu") == "torch"
    with pytest.raises(RuntimeError, match="'native' has no ssd_scan"):
        backend._find("native", "ssd_scan", "cpu")


@pytest.mark.parametrize("device", ["meta", "mps", "xpu"])
def test_other_devices_run_plain_pytorch(device):
    assert backend._find("auto", "selective_scan", device) == "torch"


def test_the_choice_is_logged_once(caplog):
    with caplog.at_level(logging.INFO, logger="custom_networks.ops.backend"):
        ops.set_backend("torch")
        for _ in range(3):
            _convolve()
    assert [record.getMessage() for record in caplog.records] == [
        "causal_conv1d on cpu runs on backend 'torch' (torch)"
    ]


def test_choice_changes_what_runs(monkeypatch):
    from custom_networks.ops import _reference, _torch

    called = []
    for module in (_reference, _torch):
        monkeypatch.setattr(module, "causal_conv1d", lambda *_, m=module: called.append(m.__name__.split("_")[-1]))
    for name in ("reference", "torch", "reference"):
        ops.set_backend(name)
        _convolve()
    assert called == ["reference", "torch", "reference"]


def test_environment_variable_selects():
    code = "import custom_networks.ops as ops; print(ops.backend_info()['selected'])"
    assert _python(code, CUSTOM_NETWORKS_BACKEND="reference").stdout == "reference\n"


def test_environment_variable_with_a_wrong_name_fails_at_the_first_call():
    code = (
        "import torch, custom_networks.ops as ops\n"
        "print('imported', flush=True)\n"
        "ops.causal_conv1d(torch.ones(1, 2, 3), torch.ones(2, 2))"
    )
    result = _python(code, CUSTOM_NETWORKS_BACKEND="fast")
    assert result.returncode != 0
    assert result.stdout == "imported\n"
    assert "unknown backend 'fast'; choose from auto" in result.stderr


def test_import_brings_in_no_compiler():
    code = (
        "import torch, sys; before = set(sys.modules)\n"
        "import custom_networks.ops\n"
        "from custom_networks.ops import _native, _native_library\n"
        "idle = not _native._usable.cache_info().currsize and not _native_library._load.cache_info().currsize\n"
        "print(*sorted(set(sys.modules) - before), 'nothing-built' if idle else 'built')"
    )
    loaded = _python(code).stdout.split()
    assert "custom_networks.ops.functional" in loaded
    assert "nothing-built" in loaded
    assert not {f"custom_networks.ops.{name}" for name in ("_triton_launch", "_mamba_ssm")} & set(loaded)
    assert not {"triton", "mamba_ssm", "causal_conv1d", "torch._dynamo", "onnx"} & set(loaded)


class TestMambaSsm:
    """The adapter, with the package's functions replaced by the loop over time (which has no `reverse` there)."""

    @pytest.fixture(autouse=True)
    def _package(self, monkeypatch):
        from custom_networks.ops import _reference

        def ssd(x, dt, A, B, C, chunk_size, *, D, z, dt_bias, initial_states, dt_softplus, return_final_states):
            return _reference.ssd_scan(
                x, dt, A, B, C, chunk_size, D, z, dt_bias, dt_softplus, initial_states, return_final_states
            )

        fakes = {
            "mamba_ssm.ops.selective_scan_interface": {"selective_scan_fn": _reference.selective_scan},
            "mamba_ssm.ops.triton.ssd_combined": {"mamba_chunk_scan_combined": ssd},
            "causal_conv1d": {"causal_conv1d_fn": _reference.causal_conv1d},
        }
        for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton", *fakes):
            module = types.ModuleType(name)
            module.__dict__.update(fakes.get(name, {}))
            monkeypatch.setitem(sys.modules, name, module)

    def test_is_available_but_never_chosen_by_itself(self):
        assert backend.availability("mamba_ssm") == (True, "installed")
        assert backend._find("auto", "selective_scan", "cuda") != "mamba_ssm"

    @pytest.mark.parametrize("reverse", [False, True])
    @pytest.mark.parametrize(
        ("operator", "sizes"),
        [("selective_scan", (2, 6, 9, 4, 2)), ("ssd_scan", (2, 9, 4, 3, 5, 2)), ("causal_conv1d", (2, 6, 9, 4))],
    )
    def test_arguments_and_direction(self, operator, sizes, reverse):
        from custom_networks.ops import _mamba_ssm, _reference

        known = [o for o in OPTIONS[operator] if o not in ("initial_state", "return_final_state")]
        case = Case(operator, sizes, tuple(known), reverse)
        tensors, settings = case.inputs(torch.float32), case.settings()
        if operator == "ssd_scan":
            settings["chunk_size"] = 64
        found = getattr(_mamba_ssm, operator)(**tensors, **settings)
        expected = getattr(_reference, operator)(**tensors, **settings)
        torch.testing.assert_close(found, expected)

    def test_a_scan_from_a_state_runs_in_pytorch(self):
        from custom_networks.ops import _mamba_ssm, _torch

        case = everything("selective_scan", 2, 6, 9, 4, 2, reverse=True)
        arguments = case.inputs(torch.float32) | case.settings()
        found, expected = _mamba_ssm.selective_scan(**arguments), _torch.selective_scan(**arguments)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    def test_float64_is_refused(self):
        from custom_networks.ops import _mamba_ssm

        with pytest.raises(RuntimeError, match=r"no causal_conv1d for torch.float64; set_backend\('torch'\)"):
            _mamba_ssm.causal_conv1d(torch.ones(1, 2, 3).double(), torch.ones(2, 2))
