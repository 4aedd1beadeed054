"""The report of a folder of results, by the room that knows its files."""

from __future__ import annotations

from pathlib import Path

from custom_apps.common.errors import DataError
from custom_apps.common.report import FILE_NAME, write_report
from custom_apps.common.room import Room, imported


def report_folder(
    room: Room, folder: str | Path, bundle: str | Path, output: str | Path | None = None, overwrite: bool = False
) -> Path:
    """Writes the report of an evaluation's or prediction's folder.

    Args:
        room: of the bundle.
        folder: of the results.
        bundle: folder of the bundle.
        output: the file; by default ``report.html`` in the folder.
        overwrite: replace an existing one.

    Returns:
        The file.

    Raises:
        DataError: if the folder has no results of this bundle, a file in it is broken, or the report is there already.
    """
    if room.report is None:
        raise DataError(folder, f"{room.bundle} has no reports", "a bundle that has some")
    output = Path(folder) / FILE_NAME if output is None else Path(output)
    return write_report(imported(room.report)(folder), folder, bundle, output, overwrite)
