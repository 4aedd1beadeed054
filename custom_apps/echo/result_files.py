"""Results of one evaluation that another one takes up."""

from __future__ import annotations

from pathlib import Path

from custom_apps.echo.csv_rows import number, read_rows
from custom_apps.echo.echonet import case_name


def read_systoles(path: str | Path) -> dict[str, list[int]]:
    """Frames of end-systole by case, from a ``size.csv`` of a segmentation, ours or EchoNet-Dynamic's.

    Raises:
        DataError: when a column is missing or a value is no number.
    """
    systoles: dict[str, list[int]] = {}
    for row in read_rows(path, ("Filename", "Frame", "ComputerSmall")):
        frames = systoles.setdefault(case_name(row["Filename"]), [])
        if number(path, "ComputerSmall", row["ComputerSmall"], 0, 1):
            frames.append(int(number(path, "Frame", row["Frame"], 0)))
    return systoles


def read_regressed(path: str | Path, column: str = "all_clips") -> dict[str, float]:
    """Ejection fraction by case, percent, from the ``videos.csv`` of an evaluation of a regressor.

    Raises:
        DataError: when a column is missing or a value is no number.
    """
    rows = read_rows(path, ("file_name", column))
    return {row["file_name"]: number(path, column, row[column]) for row in rows}
