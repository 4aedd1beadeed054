"""Runs bundles as a user types it: ``python -m monai.bundle`` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment(**extra: str) -> dict[str, str]:
    """One thread a process, no colors, no telemetry; the repository is importable from any folder."""
    variables = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return os.environ | variables | {"PYTHONPATH": str(ROOT)} | extra


def start(command: list[str], cwd: Path = ROOT, **extra: str) -> subprocess.Popen:
    """Starts ``python <command>``; output is text, errors in the same stream."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=cwd,
        env=environment(**extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def run_alone(command: list[str], cwd: Path) -> str:
    """Runs ``python <command>`` with the installed libraries but without this repository, and returns what it printed.

    Without ``site`` (``-S``) no ``.pth`` file is read, so that neither the editable installation nor the working tree
    can be imported.
    """
    libraries = sysconfig.get_path("purelib")
    return run(["-S", *command], cwd, PYTHONPATH=libraries)


def run(command: list[str], cwd: Path = ROOT, succeed: bool = True, timeout: float = 400, **extra: str) -> str:
    """Runs ``python <command>`` to its end and returns what it printed.

    A run that fails although it should succeed, or the other way round, is an error with its output.
    """
    process = start(command, cwd, **extra)
    output, _ = process.communicate(timeout=timeout)
    assert (process.returncode == 0) == succeed, f"exit code {process.returncode}\n{output[-6000:]}"
    return output


def bundle_command(configs: list[Path | str], **options: object) -> list[str]:
    """Arguments of ``python`` for ``monai.bundle run`` with merged configurations and overrides."""
    arguments = ["-m", "monai.bundle", "run", "--config_file", str([str(config) for config in configs])]
    for key, value in options.items():
        arguments += [f"--{key}", str(value)]
    return arguments


def torchrun_command(processes: int, command: list[str]) -> list[str]:
    """The same under ``torchrun``."""
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", *command]
