"""What a report is made of: numbers, tables, pictures, cases, in sections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EVALUATION, PREDICTION = "evaluation", "prediction"
SHOWN_ROWS, WORST_ROWS, NAME_WIDTH = 200, 10, 22


@dataclass(frozen=True)
class Number:
    """A headline number.

    Attributes:
        title: what it is.
        value: as text, with its unit.
        interval: its uncertainty.
        cases: over how many cases.
    """

    title: str
    value: str
    interval: str = ""
    cases: str = ""


@dataclass(frozen=True)
class Table:
    """A table; columns of numbers are set to the right.

    Attributes:
        headers: one for each column.
        rows: cells; NaN and None become a dash.
        caption: above the table.
        note: below it.
        digits: decimals of floating-point cells.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    note: str = ""
    digits: int = 3

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether it has numbers only."""
        columns = [[row[place] for row in self.rows] for place in range(len(self.headers))]
        return [bool(c) and all(v is None or isinstance(v, (int, float)) for v in c) for c in columns]

    @property
    def first_width(self) -> int:
        """Characters that the first column needs, up to a limit."""
        return min(max((len(row[0]) for row in self.cells), default=0), NAME_WIDTH)

    @property
    def cells(self) -> list[list[str]]:
        """The rows as text."""
        return [[text_of(cell, self.digits) for cell in row] for row in self.rows]


@dataclass(frozen=True)
class Picture:
    """A picture file.

    Attributes:
        path: PNG or JPEG.
        caption: below the picture.
        alt: what it shows, for those who cannot see it.
    """

    path: Path
    caption: str
    alt: str


@dataclass(frozen=True)
class Case:
    """One case with its pictures.

    Attributes:
        name: of the case.
        note: its numbers in words.
        pictures: of it.
    """

    name: str
    note: str = ""
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class Section:
    """A part of a report under a heading: text, then cases, tables and pictures.

    Attributes:
        title: the heading.
        text: paragraphs.
        cases: side by side.
        tables: below them.
        pictures: below those.
        wide: cases one below the other, for wide pictures.
    """

    title: str
    text: Sequence[str] = ()
    cases: Sequence[Case] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    wide: bool = False

    def __bool__(self) -> bool:
        """Whether there is anything under the heading."""
        return bool(self.text or self.cases or self.tables or self.pictures)


@dataclass(frozen=True)
class ReportParts:
    """What a room found in a folder of results.

    Attributes:
        kind: `EVALUATION` or `PREDICTION`.
        subject: what was measured or predicted, for the title.
        numbers: headline numbers.
        numbers_note: how they are to be read.
        sections: in order; empty ones are left out.
        facts: further lines about what was run.
    """

    kind: str
    subject: str
    numbers: Sequence[Number] = ()
    numbers_note: str = ""
    sections: Sequence[Section] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


def text_of(value: Any, digits: int = 3) -> str:
    """A cell as text: numbers with ``digits`` decimals, a dash where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return "infinite" if math.isinf(value) else f"{value:.{digits}f}"
    return str(value)


def estimate_number(
    title: str,
    estimate: Mapping[str, Any],
    cases: str,
    level: float | None = 0.95,
    digits: int = 3,
    unit: str = "",
) -> Number:
    """A headline number from a value with interval, as the results in JSON hold them.

    Args:
        title: what it is.
        estimate: ``value``, and ``low`` and ``high`` where there is an interval; perhaps ``level``.
        cases: over what, such as ``24 images``.
        level: coverage of the interval.
        digits: decimals.
        unit: after the value.
    """
    value, low, high = (number_of(estimate.get(key)) for key in ("value", "low", "high"))
    level = number_of(estimate.get("level", level))
    name = "interval" if math.isnan(level) else f"{100 * level:g} % interval"
    interval = "" if math.isnan(low) else f"{name} {low:.{digits}f} to {high:.{digits}f}"
    return Number(title, text_of(value, digits) + (unit if math.isfinite(value) else ""), interval, cases)


def brief(estimate: Mapping[str, Any] | None, digits: int = 3) -> str:
    """A value with its interval in a cell, for example ``0.871 (0.848 to 0.892)``; a dash without a value."""
    value, low, high = (number_of((estimate or {}).get(key)) for key in ("value", "low", "high"))
    if math.isnan(value) or math.isnan(low):
        return text_of(value, digits)
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def number_of(value: Any) -> float:
    """A number of a CSV or JSON file; NaN for an empty cell, null, or what is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def counted(number: int, one: str, several: str | None = None) -> str:
    """For example ``1 case``, ``2 cases``."""
    return f"{number} {one if number == 1 else several or one + 's'}"


def limited(
    headers: Sequence[str], rows: Sequence[Sequence[Any]], caption: str, source: str, count: int = SHOWN_ROWS, **more
) -> Table:
    """A table of the first rows, which says where the others are.

    Args:
        headers: one for each column.
        rows: all rows.
        caption: above the table.
        source: file that has them all.
        count: rows shown.
        more: of `Table`.
    """
    note = f"{count} of {len(rows)} rows; all are in {source}." if len(rows) > count else ""
    return Table(headers, list(rows)[:count], caption, " ".join(filter(None, [more.pop("note", ""), note])), **more)
