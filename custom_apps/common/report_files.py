"""Results read for a report: what is missing is left out, what is broken is an error that names the file."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from custom_apps.common.errors import DataError
from custom_apps.common.report_parts import PREDICTION, Case, Picture, ReportParts, Section
from custom_apps.common.spreadsheet_cell import plain_cell

WORST = "worst.json"
SALIENCY = "saliency"
MAPS_OVER_IMAGES = re.compile(r"(.+?)(_saliency|(?<!_saliency)_map)\.png")
MOST_PICTURES = 24


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file by column name, as text; none if there is no such file.

    Raises:
        DataError: if it is no CSV file in UTF-8, or a row is longer than the first.
    """
    if not path.is_file():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, f"cannot be read ({error})", "a table as the evaluation writes it") from error
    if any(None in row for row in rows):
        raise DataError(path, "a row is longer than the first", "a table as the evaluation writes it")
    return [{key: plain_cell(value or "") for key, value in row.items()} for row in rows]


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is no such file.

    Raises:
        DataError: if it is no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, f"cannot be read ({error})", "JSON as the evaluation writes it") from error
    if not isinstance(content, dict):
        raise DataError(path, f"holds a {type(content).__name__}", "a JSON object")
    return content


def column(rows: Sequence[Mapping[str, str]], name: str, path: Path) -> list[str]:
    """A column of `read_table`'s rows.

    Raises:
        DataError: if there is no such column.
    """
    if rows and name not in rows[0]:
        raise DataError(path, f"has no column {name!r}", f"columns {', '.join(rows[0])} and it")
    return [row[name] for row in rows]


def existing(pictures: Iterable[Picture]) -> list[Picture]:
    """Those whose files are there."""
    return [picture for picture in pictures if picture.path.is_file()]


def picture_of(folder: Path, file_name: str, ending: str) -> Path:
    """The file of a case in a folder; never one outside, whatever the case is called.

    Args:
        folder: of the results.
        file_name: of the input as tables have it; its folders are part of the case's name.
        ending: of the picture, such as ``_overlay.png``.
    """
    given = PurePosixPath(file_name)
    name = "_".join([*given.parts[:-1], given.stem if given.suffix else given.name])
    return folder / f"{name}{ending}".replace("/", "_")


def worst_cases(figures: Path) -> list[Case]:
    """The worst cases with pictures, as :class:`custom_apps.common.worst_cases.WorstCases` left them."""
    cases = []
    for entry in read_object(figures / WORST).get("cases", []):
        name, note = str(entry.get("case", "")), str(entry.get("note", ""))
        path = figures / Path(str(entry.get("file", ""))).name
        shown = existing([Picture(path, str(entry.get("caption", "")), f"Picture of case {name}: {note}")])
        cases.append(Case(name, note, shown))
    return cases


def saliency_section(folder: Path) -> Section:
    """Pictures of where the network looked, from the folder ``saliency`` of the results."""
    pictures = sorted((folder / SALIENCY).glob("*.png"))
    files = {found[1]: path for path in pictures if (found := MAPS_OVER_IMAGES.fullmatch(path.name))}
    text = ["Such maps show what a network responds to; they do not explain its answer."] if files else []
    if len(files) > MOST_PICTURES:
        text.append(f"{MOST_PICTURES} of {len(files)} pictures; all are in the folder {SALIENCY}.")
    cases = [
        Case(name, "", [Picture(path, "Where the network responds.", f"Saliency map of {name}")])
        for name, path in list(files.items())[:MOST_PICTURES]
    ]
    return Section("Where the network looks", text, cases, wide=True)


def reported(
    folder: Path, readers: Mapping[str, Callable[[Path], ReportParts]], markers: Mapping[str, Sequence[str]]
) -> ReportParts:
    """What the first reader makes of a folder that has one of its files.

    Args:
        folder: of results.
        readers: name to a function of the folder.
        markers: name to patterns of files, one of which tells that the reader is meant.

    Raises:
        DataError: if there is no such folder, or none of the files; with the folders below it that have some.
    """
    if not folder.is_dir():
        raise DataError(folder, "no such folder", "the results of an evaluation or of a prediction")
    for name, reader in readers.items():
        if any(next(folder.glob(pattern), None) for pattern in markers[name]):
            return reader(folder)
    if section := saliency_section(folder):
        return ReportParts(PREDICTION, "Saliency maps", sections=[section])
    patterns = [pattern for name in readers for pattern in markers[name]]
    deeper = (f"{start}{pattern}" for pattern in patterns for start in ("*/", "*/*/"))
    below = sorted({str(path.parent) for pattern in deeper for path in folder.glob(pattern)})
    hint = f"; there are some in {', '.join(below[:5])}" if below else ""
    raise DataError(folder, f"has no results{hint}", f"one of {', '.join(dict.fromkeys(patterns))}")
