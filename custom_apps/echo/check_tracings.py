"""Integrity of the tracings of an EchoNet-Dynamic data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from custom_apps.common.errors import DataError
from custom_apps.common.problems import WARNING, Problem
from custom_apps.echo import echonet
from custom_apps.echo.tracings import Tracing, crosses_itself, lv_area

LARGEST_OUTSIDE_PX = 1.0


def check_tracings(path: Path, shapes: Mapping[str, tuple[int, ...] | None]) -> list[Problem]:
    """Problems of a file of tracings.

    Args:
        path: ``VolumeTracings.csv``.
        shapes: frames, height and width of each listed video; None where it is not readable.
    """
    if not path.is_file():
        return [Problem(str(path), "no such file", "tracings, which segmentation needs", WARNING)]
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline().strip()
    problems = []
    if header != ",".join(echonet.TRACING_COLUMNS):
        problems.append(Problem(str(path), f"header is '{header}'", ",".join(echonet.TRACING_COLUMNS)))
    try:
        tracings = echonet.read_tracings(path)
    except DataError as error:
        return [*problems, *([Problem.of(error)] if not problems else [])]
    for name in sorted(set(tracings) - set(shapes)):
        problems.append(Problem(str(path), f"traces {name}, which is not listed", echonet.FILE_LIST, WARNING))
    for name, shape in shapes.items():
        found = tracings.get(name, [])
        if len(found) < 2:
            problems.append(
                Problem(str(path), f"{name} has {len(found)} traced frames", "two; it is left out", WARNING)
            )
            continue
        problems += [problem for tracing in found for problem in _check_tracing(path, name, tracing, shape)]
        pair = echonet.traced_pair(found)
        if lv_area(pair.end_systole.rows) > lv_area(pair.end_diastole.rows):
            expected = "end-systole first, the smaller one"
            problems.append(Problem(str(path), f"{name}: the first traced frame is the larger", expected, WARNING))
    return problems


def _check_tracing(path: Path, name: str, tracing: Tracing, shape: tuple[int, ...] | None) -> list[Problem]:
    where, rows = f"{name}, frame {tracing.frame}", tracing.rows
    if len(rows) < 3:
        return [Problem(str(path), f"{where}: {len(rows)} rows", "a long axis and at least two chords")]
    if not np.isfinite(rows).all():
        return [Problem(str(path), f"{where}: coordinates that are not finite", "pixels")]
    problems = []
    if crosses_itself(rows):
        problems.append(Problem(str(path), f"{where}: the outline crosses itself", "a simple outline", WARNING))
    if shape is not None:
        if not 0 <= tracing.frame < shape[0]:
            problems.append(Problem(str(path), f"{where}: no such frame", f"0 to {shape[0] - 1}"))
        low, high = rows.min(), (rows.reshape(-1, 2) - [shape[2] - 1, shape[1] - 1]).max()
        if low < -LARGEST_OUTSIDE_PX or high > LARGEST_OUTSIDE_PX:
            expected = f"coordinates within {shape[2]}×{shape[1]} pixels"
            problems.append(Problem(str(path), f"{where}: the outline leaves the frame", expected, WARNING))
    return problems
