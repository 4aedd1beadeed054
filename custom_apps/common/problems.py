"""Problems of a data set: what a check finds, and the table that is printed of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from custom_apps.common.errors import DataError
from custom_apps.common.table import text_table

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a data set.

    Attributes:
        path: the file or folder at fault.
        problem: what is wrong.
        expected: what would have been right.
        severity: ``error`` (the data set cannot be used) or ``warning``.
    """

    path: str
    problem: str
    expected: str = ""
    severity: str = ERROR

    @classmethod
    def of(cls, error: DataError, severity: str = ERROR) -> Problem:
        """The problem that a reader raised."""
        return cls(error.path, error.problem, error.expected or "", severity)


def errors_of(problems: Sequence[Problem]) -> list[Problem]:
    """The problems that forbid using the data set."""
    return [problem for problem in problems if problem.severity == ERROR]


def problem_table(problems: Sequence[Problem], folder: str | Path | None = None, limit: int | None = None) -> str:
    """The problems as a table, errors first; paths below ``folder`` are shortened.

    Args:
        problems: any number.
        folder: the data set.
        limit: rows to print; what is left out is counted.
    """
    ordered = sorted(problems, key=lambda problem: (problem.severity != ERROR, problem.path))
    rows = [[item.severity, _shortened(item.path, folder), item.problem, item.expected] for item in ordered[:limit]]
    table = text_table(rows, ["severity", "file", "problem", "expected"])
    left_out = len(ordered) - len(rows)
    return f"{table}\n… and {left_out} more" if left_out else table


def print_problems(problems: Sequence[Problem], folder: str | Path, file: TextIO | None = None) -> int:
    """Prints the table and a verdict.

    Args:
        problems: what a check found.
        folder: the data set.
        file: where to; standard output by default.

    Returns:
        Exit status: 1 with errors, else 0.
    """
    file = file or sys.stdout
    errors = len(errors_of(problems))
    if problems:
        print(problem_table(problems, folder), file=file)
    print(f"{folder}: {errors} errors, {len(problems) - errors} warnings", file=file)
    return 1 if errors else 0


def _shortened(path: str, folder: str | Path | None) -> str:
    if folder is not None and Path(path) != Path(folder) and Path(path).is_relative_to(folder):
        return str(Path(path).relative_to(folder))
    return path
