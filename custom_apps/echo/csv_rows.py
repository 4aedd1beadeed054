"""Rows of a CSV file with the columns that are needed, and errors that name file and line."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from custom_apps.common.errors import DataError
from custom_apps.common.spreadsheet_cell import plain_cell


def read_rows(path: str | Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file as dictionaries of stripped text.

    Args:
        path: the file, with a header.
        columns: those that must be there.

    Raises:
        DataError: no such file, not text, columns missing, a row with fewer values than columns.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            header = [name.strip() for name in reader.fieldnames or []]
            if absent := [name for name in columns if name not in header]:
                raise DataError(path, f"column {', '.join(absent)} missing", f"a header with {', '.join(columns)}")
            reader.fieldnames = header
            rows = []
            for row in reader:
                if any(row[name] is None for name in columns):
                    raise DataError(path, f"line {reader.line_num} is cut off", f"values for {', '.join(columns)}")
                texts = {name: value for name, value in row.items() if name and isinstance(value, str)}
                rows.append({name: plain_cell(value.strip()) for name, value in texts.items()})
            return rows
    except FileNotFoundError as error:
        raise DataError(path, "no such file", "a CSV file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, f"cannot be read ({error})", "a CSV file in UTF-8") from error


def number(path: str | Path, what: str, text: str, low: float = -math.inf, high: float = math.inf) -> float:
    """The finite number that ``text`` spells.

    Args:
        path: the file it stands in.
        what: what it is of whom, for the error.
        text: the digits.
        low, high: allowed range, both ends included.

    Raises:
        DataError: no number, or outside the range.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and low <= value <= high):
        raise DataError(path, f"{what} is '{text}'", f"a number from {low:g} to {high:g}")
    return value
