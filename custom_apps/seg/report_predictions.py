"""What a report shows of predicted label maps: pictures, volumes of the structures."""

from __future__ import annotations

import statistics
from pathlib import Path

from custom_apps.common.report_files import MOST_PICTURES, column, existing, read_table, saliency_section
from custom_apps.common.report_parts import (
    PREDICTION,
    SHOWN_ROWS,
    Case,
    Number,
    Picture,
    ReportParts,
    Section,
    limited,
    number_of,
)

TIMES, VOLUMES, FIGURES = "prediction_times.csv", "volumes.csv", "figures"


def prediction_parts(folder: Path) -> ReportParts:
    """Report of predicted label maps.

    Args:
        folder: of the predictions.
    """
    times = read_table(folder / TIMES)
    seconds = [number_of(value) for value in column(times, "seconds", folder / TIMES)]
    volumes, structures = _volumes(folder)
    names = sorted({row["case"] for row in times} | set(volumes)) or [path.name for path in sorted(folder.glob("*.*"))]
    numbers = [Number("cases", str(len(names)))]
    if seconds:
        numbers.append(Number("median time of a case", f"{statistics.median(seconds):.1f} s"))
    cases = [Case(name, "", shown) for name in names if (shown := existing([_picture(folder, name)]))]
    text = [f"Pictures of the first {MOST_PICTURES} cases."] if len(cases) > MOST_PICTURES else []
    rows = [[name, *(volumes.get(name, {}).get(structure) for structure in structures)] for name in names]
    headers = ["case", *structures]
    table = limited(headers, rows, "Milliliters; of flat images pixels", VOLUMES, SHOWN_ROWS, digits=1)
    sections = [
        Section("Pictures", text, cases[:MOST_PICTURES], wide=True),
        Section("Size of the structures" if structures else "Cases", tables=[table]),
        saliency_section(folder),
    ]
    return ReportParts(PREDICTION, "Segmentation", numbers, sections=sections)


def _volumes(folder: Path) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Case to structure to its size, and the structures in order."""
    path, sizes = folder / VOLUMES, {}
    rows = read_table(path)
    for name in ("case", "structure", "voxels", "volume_ml"):
        column(rows, name, path)
    for row in rows:
        size = number_of(row["volume_ml"] or row["voxels"])
        sizes.setdefault(row["case"], {})[row["structure"]] = size
    return sizes, list(dict.fromkeys(row["structure"] for row in rows))


def _picture(folder: Path, name: str) -> Picture:
    path = folder / FIGURES / f"{name}.png".replace("/", "_")
    return Picture(path, "Slices with the predicted structures.", f"Slices of {name} with the predicted structures")
