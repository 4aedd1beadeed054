"""Tables for people: aligned text for a terminal, and Markdown."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_apps.common.partial_file import partial_file
from custom_apps.common.spreadsheet_cell import plain_cell, safe_cell


def text_table(rows: Sequence[Sequence[Any]], headers: Sequence[str], digits: int = 3) -> str:
    """Columns aligned with spaces under a ruled header; numbers to the right, text to the left.

    Args:
        rows: cells; numbers are printed with ``digits`` decimals, NaN and None as a dash.
        headers: one for each column.
        digits: decimals of floating-point cells.

    Raises:
        ValueError: if a row has another number of cells than there are headers.
    """
    columns = _columns(rows, headers, digits)
    rule = ["-" * max(map(len, column)) for column, _ in columns]
    lines = _lines(columns)
    return "\n".join([lines[0], "  ".join(rule), *lines[1:]])


def markdown_table(rows: Sequence[Sequence[Any]], headers: Sequence[str], digits: int = 3) -> str:
    """The same as a Markdown table, readable as text too; a ``|`` in a cell is escaped."""
    columns = _columns(rows, headers, digits)
    columns = [([cell.replace("|", "\\|") for cell in column], right) for column, right in columns]
    widths = [max(3, *map(len, column)) for column, _ in columns]
    rule = [
        "-" * (width - 1) + ":" if right else "-" * width for width, (_, right) in zip(widths, columns, strict=True)
    ]
    cells = [
        [cell.rjust(width) if right else cell.ljust(width) for cell in column]
        for width, (column, right) in zip(widths, columns, strict=True)
    ]
    lines = [list(line) for line in zip(*cells, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def write_csv(rows: Sequence[Mapping[str, Any]], path: str | Path, headers: Sequence[str] | None = None) -> None:
    """Writes rows as CSV, whole or not at all; numbers keep their full precision, NaN and None are empty cells.

    Text that a spreadsheet would take for a formula gets an apostrophe in front (`safe_cell`).

    Args:
        rows: column name to value; a missing column is an empty cell.
        path: the file, replaced when it exists.
        headers: columns in order; by default those of the first row.
    """
    names = list(headers) if headers is not None else list(rows[0]) if rows else []
    with partial_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([["" if _missing(row.get(name)) else safe_cell(row[name]) for name in names] for row in rows])


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """Rows of a file that `write_csv` has written, column name to text."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: plain_cell(cell or "") for name, cell in row.items()} for row in csv.DictReader(file)]


def printable(text: str) -> str:
    """``text`` in one line: ends of lines, and what would steer a terminal, are spelled out."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def _columns(rows: Sequence[Sequence[Any]], headers: Sequence[str], digits: int) -> list[tuple[list[str], bool]]:
    """Text of each column, header first, and whether it is set to the right."""
    if wrong := [row for row in rows if len(row) != len(headers)]:
        raise ValueError(f"{len(headers)} columns, but a row has {len(wrong[0])} cells: {list(wrong[0])}")
    columns = []
    for number, header in enumerate(headers):
        cells = [row[number] for row in rows]
        right = bool(cells) and all(_missing(cell) or isinstance(cell, (int, float)) for cell in cells)
        columns.append(([str(header), *(_text(cell, digits) for cell in cells)], right))
    return columns


def _lines(columns: Sequence[tuple[list[str], bool]]) -> list[str]:
    aligned = []
    for column, right in columns:
        width = max(map(len, column))
        aligned.append([cell.rjust(width) if right else cell.ljust(width) for cell in column])
    return ["  ".join(cells).rstrip() for cells in zip(*aligned, strict=True)]


def _text(cell: Any, digits: int) -> str:
    if _missing(cell):
        return "-"
    return f"{cell:.{digits}f}" if isinstance(cell, float) else printable(str(cell))


def _missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))
