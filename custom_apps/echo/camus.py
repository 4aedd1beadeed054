"""Records of CAMUS as prepared for E-ViM3: one array a patient and a table of patients."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_apps.common.errors import DataError
from custom_apps.echo.csv_rows import number, read_rows

logger = logging.getLogger(__name__)

TABLE = "camus_4CH_official.csv"
ARRAYS = "4CH_64_112_112_float_0_1"
COLUMNS = ("file_name", "ED", "ES", "NbFrame", "Sex", "Age", "ImageQuality", "EF", "FrameRate", "Split")
QUALITIES = ("Good", "Medium", "Poor")
# Of the training patients, on the scale from 0 to 1 (E-ViM3, arXiv 2503.20258).
GRAY_MEAN, GRAY_STD = 0.19323353, 0.22046535


def camus_records(
    dataset_dir: str | Path,
    csv_path: str | Path | None = None,
    split: str | Sequence[str] = "train",
    qualities: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Patients of a split: ``image`` (path of the array), ``case``, ``ef_percent``, ``fps``, ``quality``, ``split``.

    Args:
        dataset_dir: folder of the arrays, or the one that holds it under the name ``4CH_64_112_112_float_0_1``;
            :func:`custom_apps.echo.camus_preparation.prepare_camus` writes both.
        csv_path: table of patients; ``camus_4CH_official.csv`` in or beside ``dataset_dir`` when None.
        split: ``train``, ``val``, ``test``, or several of them.
        qualities: keep only these of ``Good``, ``Medium``, ``Poor``, as the published test does.

    Raises:
        DataError: folder, table, column or array missing, a patient twice, EF outside 0 to 100, no patient left.
    """
    folder = Path(dataset_dir)
    if not folder.is_dir():
        raise DataError(folder, "no such folder", "prepared CAMUS arrays")
    path = _table(folder) if csv_path is None else Path(csv_path)
    arrays = folder / ARRAYS if (folder / ARRAYS).is_dir() else folder
    rows = read_rows(path, ("file_name", "EF", "ImageQuality", "Split"))
    if twice := [name for name, count in Counter(row["file_name"] for row in rows).items() if count > 1]:
        raise DataError(path, f"lists {', '.join(sorted(twice))} more than once", "each patient once")
    logger.info("%s: %s", path, ", ".join(f"{n} {s}" for s, n in Counter(row["Split"] for row in rows).items()))
    wanted = {split} if isinstance(split, str) else set(split)
    rows = [row for row in rows if row["Split"].lower() in {name.lower() for name in wanted}]
    if qualities is not None:
        if unknown := set(qualities) - set(QUALITIES):
            raise ValueError(f"unknown image quality {sorted(unknown)}, expected {QUALITIES}")
        rows = [row for row in rows if row["ImageQuality"] in qualities]
    if not rows:
        kept = "" if qualities is None else f" with quality {', '.join(qualities)}"
        raise DataError(path, f"no patient of split {', '.join(sorted(wanted))}{kept}", "train, val or test")
    records = [_record(path, arrays, row) for row in rows]
    if missing := [record["image"] for record in records if not Path(record["image"]).is_file()]:
        raise DataError(arrays, f"{len(missing)} listed arrays missing: {', '.join(missing)}", "every array")
    return records


def _record(path: Path, arrays: Path, row: dict[str, str]) -> dict[str, Any]:
    name = row["file_name"]
    record = {
        "image": str(arrays / f"{name}.npy"),
        "case": name,
        "ef_percent": number(path, f"EF of {name}", row["EF"], 0, 100),
        "quality": row["ImageQuality"],
        "split": row["Split"].lower(),
    }
    if row.get("FrameRate"):
        record["fps"] = number(path, f"FrameRate of {name}", row["FrameRate"], 0)
    return record


def _table(folder: Path) -> Path:
    for path in (folder / TABLE, folder.parent / TABLE):
        if path.is_file():
            return path
    raise DataError(folder / TABLE, "no such file", "the table of patients")
