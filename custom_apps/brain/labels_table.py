"""Table of molecular markers: one row a patient, as the Erasmus Glioma Database has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import partial_file
from custom_apps.common.spreadsheet_cell import plain_cell
from custom_apps.common.table import write_csv

COLUMNS = ("Subject", "IDH", "1p19q", "Grade")
EGD_TABLE = "Genetic_and_Histological_labels.xlsx"
TABLE = "labels.csv"
UNKNOWN = -1
_SPELLINGS = {"1p/19q": "1p19q", "1p_19q": "1p19q", "codeletion": "1p19q", "case": "subject", "patient": "subject"}


@dataclass(frozen=True)
class Markers:
    """What is known about one tumor.

    Attributes:
        idh: 1 mutated, 0 wild type, -1 unknown.
        codeletion: of 1p/19q: 1 co-deleted, 0 intact, -1 unknown.
        grade: WHO grade, -1 unknown.
    """

    idh: int = UNKNOWN
    codeletion: int = UNKNOWN
    grade: int = UNKNOWN


def find_labels(dataset_dir: str | Path) -> Path | None:
    """The table of a data set: ``labels.csv``, ``labels.xlsx`` or EGD's, in the folder or one below; None if none."""
    for name in (TABLE, "labels.xlsx", EGD_TABLE):
        for found in (Path(dataset_dir) / name, *sorted(Path(dataset_dir).glob(f"*/{name}"))):
            if found.is_file():
                return found
    return None


def read_labels(path: str | Path) -> dict[str, Markers]:
    """Reads a CSV or XLSX table (its first sheet), whose columns are found by name.

    ``Subject`` must be there and at least one of ``IDH`` and ``1p19q``; capitals do not matter. -1 and empty cells mean
    unknown.

    Returns:
        Patient to markers.

    Raises:
        DataError: no such file, no table, a column missing, a patient twice, or a value that is none of -1, 0 and 1
            (grades: -1, 1 to 4).
    """
    path = Path(path)
    frame = _read(path)
    names = {_SPELLINGS.get(key, key): name for name in frame.columns if (key := str(name).strip().lower())}
    if "subject" not in names or not names.keys() & {"idh", "1p19q"}:
        found = ", ".join(map(str, frame.columns))
        raise DataError(path, f"its columns are {found}", f"columns named {', '.join(COLUMNS)}")
    markers: dict[str, Markers] = {}
    for number, (_, row) in enumerate(frame.iterrows(), start=2):
        subject = str(row[names["subject"]]).strip()
        if subject in ("", "nan", "None"):
            raise DataError(path, f"row {number} names no patient", "a name in column Subject")
        if subject in markers:
            raise DataError(path, f"{subject} is there twice", "one row a patient")
        markers[subject] = Markers(
            *(
                _value(path, subject, column, row[names[column]], allowed) if column in names else UNKNOWN
                for column, allowed in (("idh", (0, 1)), ("1p19q", (0, 1)), ("grade", (1, 2, 3, 4)))
            )
        )
    return markers


def write_labels(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Writes a table as CSV or XLSX, by its ending; ``rows`` have the keys ``COLUMNS``."""
    if Path(path).suffix.lower() == ".csv":
        write_csv(rows, path, COLUMNS)
        return
    import pandas

    with partial_file(path) as temporary:
        pandas.DataFrame(list(rows), columns=list(COLUMNS)).to_excel(temporary, sheet_name="Sheet1", index=False)


def _read(path: Path):
    import pandas

    if not path.is_file():
        raise DataError(path, "no such file", "a table of molecular markers, CSV or XLSX")
    try:
        if path.suffix.lower() == ".csv":
            # The separator is found out: tables of German and French offices have semicolons.
            frame = pandas.read_csv(path, sep=None, engine="python", dtype=str, encoding="utf-8-sig")
            return frame.map(plain_cell, na_action="ignore")
        return pandas.read_excel(path, dtype=str)
    except ImportError as error:
        raise DataError(path, "XLSX cannot be read without openpyxl", "pip install openpyxl") from error
    except Exception as error:  # pandas, openpyxl and zipfile raise all kinds of errors on damaged files
        raise DataError(path, f"is not a readable table ({type(error).__name__}: {error})", "CSV or XLSX") from error


def _value(path: Path, subject: str, column: str, cell: Any, allowed: tuple[int, ...]) -> int:
    text = str(cell).strip()
    if text in ("", "nan", "None", "<NA>"):
        return UNKNOWN
    try:
        value = float(text)
    except ValueError:
        value = None
    if value is None or value not in (UNKNOWN, *allowed):
        expected = ", ".join(map(str, (UNKNOWN, *allowed)))
        raise DataError(path, f"{column.upper()} of {subject} is '{text}'", f"one of {expected}")
    return int(value)
