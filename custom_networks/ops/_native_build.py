"""Builds the compiled operators on first use and keeps the result in the user's cache directory.

The file name holds a hash of the sources, the flags and the features of the processor (a home directory may be shared
by unlike machines) and one of the compiler. A build goes to a temporary name and is renamed when complete, so that
processes may build at the same time. A directory that others could write to is refused: what lies in it is executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CACHE_VARIABLE = "CUSTOM_NETWORKS_CACHE"
SOURCES = Path(__file__).with_name("csrc")
TIMEOUT_S = 180.0

# The sources are vectors already, and with short loops unrolled -O2 is as fast as -O3 and compiled in two thirds of the
# time. -ffast-math would fold rounding tricks away, and with older compilers switches the whole process to
# flush-to-zero.
_FLAGS = [
    "-std=c++17",
    "-O2",
    "-fpeel-loops",
    "-fno-tree-vectorize",
    "-fno-exceptions",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-shared",
    "-fPIC",
]
_OPENMP = "-fopenmp"
_VARIANTS = {"float": (), "double": ("-DSCAN_DOUBLE",)}


class BuildError(RuntimeError):
    """The library could not be built; the message says why and what to do."""


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: how to call it, and what it says about itself."""

    command: tuple[str, ...]
    version: str


def cache_directory() -> Path:
    """Where built libraries are kept: ``$CUSTOM_NETWORKS_CACHE``, else below the user's cache directory."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "custom_networks" / "native"


@cache
def find_compiler() -> Compiler | None:
    """The compiler named by ``$CXX``, else the first of c++, g++ and clang++ that answers."""
    named = os.environ.get("CXX")
    for candidate in [named] if named else ["c++", "g++", "clang++"]:
        command = shlex.split(candidate)
        path = shutil.which(command[0])
        if path is None:
            continue
        try:
            answer = _run([path, *command[1:], "--version"], 20.0)
        except (OSError, subprocess.SubprocessError):
            continue
        if answer.returncode == 0:
            return Compiler((path, *command[1:]), answer.stdout)
    return None


def flags(variant: str) -> list[str]:
    """Compiler flags of a variant, ``float`` or ``double``, tuned to this processor."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64", "i686"):
        tuned = ["-march=native"]
    elif machine in ("aarch64", "arm64"):
        tuned = ["-mcpu=native"]
    else:
        tuned = []
    return [*_FLAGS, *tuned, *_VARIANTS[variant]]


@cache
def processor_features() -> str:
    """What distinguishes processors that cannot run each other's code."""
    words = [platform.system(), platform.machine()]
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features", "isa"):
                return " ".join([*words, *sorted(value.split())])
    return " ".join([*words, platform.processor(), platform.node()])


def library_name(variant: str, compiler: Compiler | None) -> str:
    """File name of a build; without a compiler a pattern that any compiler's build matches."""
    inputs = [processor_features(), " ".join(flags(variant))]
    inputs += [
        path.name + "\0" + path.read_text() for path in sorted(SOURCES.iterdir()) if path.suffix in (".h", ".cpp")
    ]
    made_by = "*" if compiler is None else _digest(" ".join(compiler.command) + compiler.version)[:12]
    return f"scan-{variant}-{_digest(chr(0).join(inputs))[:20]}-{made_by}.so"


def library_path(variant: str = "float", rebuild: bool = False) -> Path:
    """Path of the library for this machine, built now if the cache does not hold it.

    Args:
        variant: ``float`` (float32 and bfloat16) or ``double`` (float64).
        rebuild: Build even if the cache holds a file of that name.

    Raises:
        BuildError: No compiler, a failed or timed-out build, or a cache directory that cannot be used.
    """
    compiler, directory = find_compiler(), cache_directory()
    if compiler is None:
        kept = sorted(directory.glob(library_name(variant, None))) if directory.is_dir() else []
        if not kept or rebuild:
            raise BuildError("no C++ compiler found; install g++ or clang++, or name one in $CXX")
        _check_private(directory)
        return kept[-1]
    path = directory / library_name(variant, compiler)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(directory)
        if rebuild or not path.is_file():
            _build(compiler, variant, path)
    except OSError as error:
        remedy = f"set ${CACHE_VARIABLE} to a directory of your own"
        raise BuildError(f"cannot write to {directory} ({error}); {remedy}") from error
    return path


def _build(compiler: Compiler, variant: str, path: Path) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".build-", suffix=".so", dir=path.parent)
    os.close(handle)
    source = str(SOURCES / "scan.cpp")
    complaint = ""
    try:
        # A compiler without OpenMP still gives a library, which then uses one thread.
        for parallel in ([_OPENMP], []):
            command = [*compiler.command, *flags(variant), *parallel, "-o", temporary, source]
            try:
                done = _run(command, TIMEOUT_S)
            except subprocess.TimeoutExpired:
                raise BuildError(f"{compiler.command[0]} did not finish within {TIMEOUT_S:g} s") from None
            if done.returncode == 0:
                os.chmod(temporary, 0o700)
                os.replace(temporary, path)
                return
            complaint = complaint or done.stdout
        raise BuildError(f"{compiler.command[0]} failed:\n{complaint[-2000:]}")
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _run(command: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Runs a compiler in a process group of its own, so that a time-out ends its children too."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C"},
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except BaseException:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, output)


def _check_private(directory: Path) -> None:
    if sys.platform == "win32":
        return
    status = directory.stat()
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BuildError(
            f"{directory} can be written by others; make it yours alone (chmod 700) or set ${CACHE_VARIABLE} to "
            "another directory"
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
