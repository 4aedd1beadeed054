"""What a prediction found, case by case: ``results.json``, and a table for the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_apps.common.partial_file import write_json
from custom_apps.common.prediction_run import PredictionRun
from custom_apps.common.table import read_csv, text_table

RESULTS = "results.json"
TIMES = "prediction_times.csv"
NAME_COLUMNS = ("file_name", "case")
SHOWN_ROWS, SHOWN_COLUMNS = 12, 6


def write_summary(run: PredictionRun) -> Path:
    """Writes ``results.json``: of every case its input, files and numbers, and what was wrong with those left out.

    Numbers are the rows of the tables that the bundle writes, by the table's name. Cases of an earlier run that is in
    the file stay, unless they were predicted again.

    Returns:
        The file.
    """
    path = run.output_dir / RESULTS
    content = _earlier(path)
    tables = {name: read_rows(run.output_dir / name) for name in run.outputs if name.endswith(".csv") and name != TIMES}
    for case in run.cases:
        item = run.items[case]
        names = {case, str(item.get("file_name", case))}
        numbers = {
            Path(name).stem: [_typed(row) for row in rows if _name(row) in names] for name, rows in tables.items()
        }
        content["cases"][case] = {
            "input": item["image"],
            "files": [name for name in run.outputs if _owner(name, run.cases) == case],
            "numbers": {table: rows for table, rows in numbers.items() if rows},
        }
        content["left_out"].pop(case, None)
    content["left_out"] |= {case: str(error) for case, error in run.broken.items()}
    content["cases"] = dict(sorted(content["cases"].items()))
    write_json(content, path)
    return path


def summary_text(run: PredictionRun) -> str:
    """A few lines: how many cases, how long, the first rows of each table, and where the files are."""
    lines = []
    for name in run.outputs:
        rows = read_rows(run.output_dir / name) if name.endswith(".csv") and name != TIMES else []
        if rows:
            headers = list(rows[0])[:SHOWN_COLUMNS]
            shown = [[_cell(row[header]) for header in headers] for row in rows[:SHOWN_ROWS]]
            lines += [text_table(shown, headers), *(["…"] if len(rows) > SHOWN_ROWS else []), ""]
    each = f" ({run.seconds / len(run.cases):.1f} s each)" if len(run.cases) > 1 else ""
    lines.append(f"{_count(len(run.cases), 'case')} in {run.seconds:.1f} s{each} on {run.device}: {run.output_dir}")
    if run.broken:
        lines.append(f"{_count(len(run.broken), 'case')} left out, see {RESULTS}")
    return "\n".join(lines)


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Rows of a table."""
    return read_csv(path)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _earlier(path: Path) -> dict[str, Any]:
    empty: dict[str, Any] = {"cases": {}, "left_out": {}}
    try:
        return empty | json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return empty


def _owner(name: str, cases: Sequence[str]) -> str | None:
    """The case that a file belongs to: the longest one that its name begins with."""
    base = Path(name).name
    fitting = [case for case in cases if base.startswith((f"{case}_", f"{case}.", f"{case}-"))]
    return max(fitting, key=len, default=None)


def _name(row: dict[str, str]) -> str | None:
    return next((row[column] for column in NAME_COLUMNS if column in row), None)


def _typed(row: dict[str, str]) -> dict[str, Any]:
    return {key: value if key in NAME_COLUMNS else _cell(value) for key, value in row.items()}


def _cell(value: str) -> Any:
    """A number where the text is one, None for an empty cell."""
    if value in ("", None):
        return None
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
