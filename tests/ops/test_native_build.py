"""Building the compiled operators: what the cache holds, and what happens when anything goes wrong."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import custom_networks.ops as ops
from custom_networks.ops import _native, _native_build, _native_causal_conv, _native_library
from custom_networks.ops._native_build import BuildError

ROOT = Path(__file__).parents[2]

usable, reason = _native.is_available()
needs_library = pytest.mark.skipif(not usable, reason=reason)


@pytest.fixture(autouse=True)
def forgetful():
    """Nothing that one test finds out about the machine reaches the next."""

    def forget():
        for function in (_native_build.find_compiler, _native_library._load, _native._usable):
            function.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    directory = tmp_path / "cache"
    monkeypatch.setenv("CUSTOM_NETWORKS_CACHE", str(directory))
    return directory


def compiler(tmp_path: Path, monkeypatch, body: str, version: str = "fake 1.0") -> Path:
    """A compiler that answers for its version and otherwise runs ``body``, with the output file's name in ``$out``."""
    script = tmp_path / "c++"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in *--version*) echo {version}; exit 0;; esac\nall="$*"\n'
        f'while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done\n{body}\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    _native_build.find_compiler.cache_clear()
    return script


def copying(monkeypatch) -> str:
    """Body of a compiler that takes no time: it hands out the library that this machine has built before."""
    with monkeypatch.context() as context:
        context.delenv("CUSTOM_NETWORKS_CACHE")
        return f'cp "{_native_build.library_path()}" "$out"'


@needs_library
def test_a_build_is_private_complete_and_kept(tmp_path, monkeypatch, cache):
    body = copying(monkeypatch)
    compiler(tmp_path, monkeypatch, f"{body}; echo x >> {tmp_path}/calls")
    first = _native_build.library_path()
    assert _native_build.library_path() == first
    assert (tmp_path / "calls").read_text() == "x\n"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert [path.name for path in cache.iterdir()] == [first.name]
    assert _native_library.load(torch.float32).lanes in (4, 8, 16)


@needs_library
def test_what_the_file_name_depends_on(tmp_path, monkeypatch):
    def name() -> str:
        return _native_build.library_name("float", _native_build.find_compiler())

    compiler(tmp_path, monkeypatch, "", "fake 1.0")
    names = [name(), _native_build.library_name("double", _native_build.find_compiler())]
    compiler(tmp_path, monkeypatch, "", "fake 1.1")
    names.append(name())
    with monkeypatch.context() as context:
        context.setattr(_native_build, "processor_features", lambda: "another processor")
        names.append(name())
    with monkeypatch.context() as context:
        context.setattr(_native_build, "flags", lambda variant: ["-O0"])
        names.append(name())
    copy = tmp_path / "csrc"
    copy.mkdir()
    for path in _native_build.SOURCES.iterdir():
        (copy / path.name).write_text(path.read_text())
    monkeypatch.setattr(_native_build, "SOURCES", copy)
    assert name() == names[2]
    (copy / "simd.h").write_text((copy / "simd.h").read_text() + "// changed\n")
    names.append(name())
    assert len(set(names)) == len(names)


def test_flags_leave_floating_point_alone():
    for variant in ("float", "double"):
        assert not any("fast-math" in flag or flag == "-Ofast" for flag in _native_build.flags(variant))


@needs_library
def test_a_kept_build_serves_without_a_compiler(tmp_path, monkeypatch, cache):
    compiler(tmp_path, monkeypatch, copying(monkeypatch))
    built = _native_build.library_path()
    monkeypatch.setenv("CXX", str(tmp_path / "absent"))
    _native_build.find_compiler.cache_clear()
    assert _native_build.library_path() == built


def test_no_compiler_is_said_once_and_another_backend_takes_over(tmp_path, monkeypatch, cache, caplog):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    x = torch.randn(1, 3, 5)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert not _native.is_available()[0]
            expected = ops._reference.causal_conv1d(x, torch.ones(3, 2))
            found = _native.causal_conv1d(x.double(), torch.ones(3, 2).double())
            torch.testing.assert_close(found.float(), expected)
    told = [record.getMessage() for record in caplog.records if "float32" in record.getMessage()]
    assert len(told) == 1
    assert "g++" in told[0]
    assert "$CXX" in told[0]


@pytest.mark.parametrize(
    ("body", "said"),
    [("echo no such header; exit 1", "no such header"), ("kill -9 $$", "failed"), ("sleep 60", "0.3 s")],
)
def test_a_failing_compiler_leaves_nothing_behind(tmp_path, monkeypatch, cache, body, said):
    compiler(tmp_path, monkeypatch, body)
    monkeypatch.setattr(_native_build, "TIMEOUT_S", 0.3)
    start = time.monotonic()
    with pytest.raises(BuildError, match=said):
        _native_build.library_path()
    assert time.monotonic() - start < 20
    assert list(cache.iterdir()) == []


@needs_library
def test_a_compiler_without_openmp(tmp_path, monkeypatch, cache):
    body = copying(monkeypatch)
    compiler(tmp_path, monkeypatch, f'case "$all" in *-fopenmp*) exit 1;; esac; {body}')
    assert _native_build.library_path().is_file()


def test_a_home_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CUSTOM_NETWORKS_CACHE", str(tmp_path / "file" / "cache"))
    compiler(tmp_path, monkeypatch, "exit 0")
    with pytest.raises(BuildError, match=r"cannot write.*\$CUSTOM_NETWORKS_CACHE"):
        _native_build.library_path()


def test_a_directory_that_others_can_write_is_refused(tmp_path, monkeypatch, cache):
    compiler(tmp_path, monkeypatch, 'echo x > "$out"')
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(BuildError, match="by others"):
        _native_build.library_path()
    assert list(cache.iterdir()) == []


@needs_library
@pytest.mark.parametrize("content", [b"", b"\x7fELF but not really"])
def test_a_damaged_library_is_built_again(tmp_path, monkeypatch, cache, content):
    compiler(tmp_path, monkeypatch, copying(monkeypatch))
    _native_build.library_path().write_bytes(content)
    assert _native.is_available()[0]


def test_a_library_of_another_version_is_not_used(tmp_path, monkeypatch, cache):
    compiler(tmp_path, monkeypatch, 'echo "not a library" > "$out"')
    available, why = _native.is_available()
    assert not available
    assert "cannot load" in why


@needs_library
def test_wrong_numbers_are_noticed(monkeypatch):
    right = _native_causal_conv.forward
    monkeypatch.setattr(_native_causal_conv, "forward", lambda *arguments: right(*arguments) * 1.01)
    available, why = _native.is_available()
    assert not available
    assert "wrong numbers" in why


def _python(code: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)


def test_import_builds_nothing(tmp_path, monkeypatch, cache):
    compiler(tmp_path, monkeypatch, f"echo x > {tmp_path}/called")
    code = "import custom_networks.ops, sys; print('torch._dynamo' in sys.modules)"
    output, _ = _python(code).communicate(timeout=120)
    assert output.strip() == "False"
    assert not cache.exists()
    assert not (tmp_path / "called").exists()


@needs_library
def test_two_processes_build_at_once(tmp_path, monkeypatch, cache):
    whole = copying(monkeypatch).split('"')[1]
    halves = (
        f'echo x >> {tmp_path}/calls; head -c 50000 "{whole}" > "$out"; sleep 1; tail -c +50001 "{whole}" >> "$out"'
    )
    compiler(tmp_path, monkeypatch, halves)
    code = "from custom_networks.ops import _native; print(_native.is_available()[0])"
    processes = [_python(code) for _ in range(2)]
    assert [process.communicate(timeout=120)[0].strip() for process in processes] == ["True", "True"]
    assert (tmp_path / "calls").read_text().count("x") >= 1
    assert len(list(cache.iterdir())) == 1
