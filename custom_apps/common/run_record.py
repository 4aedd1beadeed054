"""What ran, on what, for how long: a ``run.json`` beside the results."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from custom_apps.common.partial_file import write_json
from custom_apps.common.shareable_text import shareable_text

PACKAGES = ("mamba-bundles", "torch", "monai", "pytorch-ignite", "numpy", "scipy")


class RunRecord:
    """Writes ``run.json``: versions, commit, machine, configuration, start, end, seconds, processor seconds, peak
    memory and outcome. No environment variable, user name or host name is stored (`shareable_text`).

    Either a context manager around some work, or a handler of an engine (``attach``). The file is there from the start
    with outcome ``running``, so that a killed run leaves a trace; it is replaced at the end. In a distributed run
    rank 0 writes.

    Args:
        path: the file to write, replaced when it exists.
        config: resolved configuration; values that JSON lacks are stored as text.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any] | None = None):
        self.path = Path(path)
        self.content: dict[str, Any] = {
            "outcome": "running",
            "command": [shareable_text(part) for part in sys.argv],
            "config": None if config is None else _plain(config),
            "versions": versions(),
            "git_commit": git_commit(),
            "machine": machine_line(),
        }
        self._start: float | None = None
        self._cpu_start = 0.0

    def attach(self, engine: Engine) -> None:
        """Records the run of ``engine`` from its start to its end or failure."""
        engine.add_event_handler(Events.STARTED, lambda: self.start())
        engine.add_event_handler(Events.COMPLETED, lambda: self.finish("completed"))
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._failed)

    def __enter__(self) -> RunRecord:
        self.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _trace: Any) -> None:
        self.finish("completed" if error is None else f"failed: {kind.__name__}: {error}")

    def start(self) -> None:
        """Starts the clock and writes the record."""
        self._start, self._cpu_start = time.perf_counter(), _processor_seconds()
        self.content["started"] = _now()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._write()

    def finish(self, outcome: str = "completed") -> None:
        """Stops the clock and writes the record.

        Args:
            outcome: ``completed``, or what went wrong.
        """
        seconds = None if self._start is None else round(time.perf_counter() - self._start, 3)
        self.content |= {
            "outcome": shareable_text(outcome),
            "ended": _now(),
            "seconds": seconds,
            "cpu_seconds": self._cpu_seconds(),
        }
        self.content["peak_memory_mib"] = peak_memory_mib()
        self._write()

    def _cpu_seconds(self) -> float | None:
        return None if self._start is None else round(_processor_seconds() - self._cpu_start, 3)

    def _failed(self, engine: Engine, error: BaseException) -> None:
        self.finish(f"failed: {type(error).__name__}: {error}")
        # Ignite hands an error to the handlers of this event instead of raising it, so one of them must raise. The
        # last one does: raising earlier would keep the others (a tracker that closes its run) from hearing of it.
        last, *_ = engine._event_handlers[Events.EXCEPTION_RAISED][-1]
        if last == self._failed:
            raise error

    def _write(self) -> None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if not distributed or torch.distributed.get_rank() == 0:
            write_json(self.content, self.path)


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that decide the numbers; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def git_commit(folder: str | Path | None = None) -> str | None:
    """Commit of the checkout that holds this package, with ``-dirty`` when files differ from it; None outside of one.

    Args:
        folder: another folder to ask about.
    """
    if folder is None:
        folder = Path(__file__).parent
        # An installed copy may lie in the tree of another project, whose commit would mislead.
        if _git(folder, "ls-files", "--error-unmatch", Path(__file__).name) is None:
            return None
    return _git(Path(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers about a folder; None when it fails or is not there."""
    try:
        answer = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None


def machine_line() -> str:
    """The machine in one line: system, processor cores, memory, accelerators."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [platform.system(), platform.machine(), f"{cores} cores ({torch.get_num_threads()} threads)"]
    parts.append(f"{memory_gib:.0f} GiB")
    parts += [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())] or ["no accelerator"]
    return ", ".join(parts)


def peak_memory_mib() -> dict[str, float]:
    """Largest memory so far in MiB: of the process (``host``) and, with an accelerator, of its tensors (``device``)."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = {"host": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)}
    if torch.cuda.is_available():
        peak["device"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return peak


def _processor_seconds() -> float:
    """Seconds of all threads of this process and of its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plain(value: Any) -> Any:
    """``value`` in the types of JSON; others as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (int, float, bool)) else shareable_text(str(value))
