"""What a report shows of the segmentation bundle's results."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

from custom_apps.common.report_files import (
    column,
    existing,
    read_table,
    reported,
    saliency_section,
    worst_cases,
)
from custom_apps.common.report_parts import (
    EVALUATION,
    SHOWN_ROWS,
    WORST_ROWS,
    Number,
    Picture,
    ReportParts,
    Section,
    counted,
    estimate_number,
    limited,
    number_of,
)
from custom_apps.common.report_sections import number_or, training_section
from custom_apps.seg.report_predictions import TIMES, VOLUMES, prediction_parts

SUBJECT = "Segmentation"
TITLES = {"dice": "Dice", "iou": "IoU", "nsd": "surface Dice (NSD)", "hd95_mm": "HD95, mm", "hd_mm": "HD, mm"}
MARKERS = {
    "structures": ["structures.csv"],
    "clicks": ["click_curve.csv"],
    "cells": ["cells-*.csv"],
    "prediction": [TIMES, VOLUMES],
}


def report_parts(folder: str | Path) -> ReportParts:
    """Parts of the report of an evaluation or a prediction.

    Args:
        folder: that ``evaluate.yaml``, ``inference.yaml`` or one of their overlays wrote.

    Raises:
        DataError: if it is none of them.
    """
    readers = {"structures": _structures, "clicks": _structures, "cells": _cells, "prediction": prediction_parts}
    return reported(Path(folder), readers, MARKERS)


def _structures(folder: Path) -> ReportParts:
    """Report of `custom_apps.seg.score_tables`, and of the curve over clicks where there is one."""
    path = folder / "structures.csv"
    rows = read_table(path)
    measures = list(dict.fromkeys(column(rows, "measure", path)))
    numbers = [_number(row) for row in rows if row["label"] == "mean"]
    structures = [
        [
            row["label"],
            TITLES.get(row["measure"], row["measure"]),
            int(number_or(number_of(row["cases"]), 0)),
            *(number_of(row[name]) for name in ("mean", "std", "95 % low", "95 % high")),
            int(number_or(number_of(row.get("infinite")), 0)),
        ]
        for row in rows
    ]
    note = (
        "std: over cases; low and high: ends of the 95 % bootstrap interval of the mean over cases; infinite: cases "
        "with an infinite distance, which are counted apart. 'mean' is over structures in a case, then over cases."
    )
    headers = ["structure", "measure", "cases", "mean", "std", "low", "high", "infinite"]
    tables = [limited(headers, structures, "", path.name, note=note)] if structures else []
    figure = Picture(
        folder / "figures" / "overlays.png",
        "From the worst to the best case; filled: reference, line: prediction.",
        "Slices of cases with the reference filled and the prediction as a line",
    )
    sections = [
        _worst(folder, measures),
        Section("Overlays", pictures=existing([figure])),
        _clicks(folder),
        Section("Structures", tables=tables),
        _all_cases(folder, measures),
        training_section(folder),
        saliency_section(folder),
    ]
    return ReportParts(EVALUATION, SUBJECT, numbers, _protocol(folder), sections)


def _number(row: dict[str, str]) -> Number:
    estimate = {"value": row["mean"], "low": row["95 % low"], "high": row["95 % high"]}
    cases = counted(int(number_or(number_of(row["cases"]), 0)), "case")
    return estimate_number(f"mean {TITLES.get(row['measure'], row['measure'])}", estimate, cases)


def _protocol(folder: Path) -> str:
    """The line below the table of structures that tells how was counted."""
    path = folder / "structures.md"
    lines = path.read_text(encoding="utf-8").strip().splitlines() if path.is_file() else []
    return lines[-1] if lines and not lines[-1].startswith("|") else ""


def _worst(folder: Path, measures: list[str]) -> Section:
    path = folder / "cases.csv"
    rows = read_table(path)
    if not rows or not measures:
        return Section("Worst cases first", cases=worst_cases(folder / "figures"), wide=True)
    first = measures[0]
    higher_is_better = not first.endswith("_mm")
    columns = [name for name in rows[0] if name.startswith(f"{first} ")]
    mean = column(rows, f"{first} mean", path)
    order = sorted(
        range(len(rows)),
        key=lambda place: number_or(number_of(mean[place]) * (1 if higher_is_better else -1), -float("inf")),
    )
    columns = [f"{first} mean", *(name for name in columns if name != f"{first} mean")]
    found = [[rows[place]["case"], *(number_of(rows[place][name]) for name in columns)] for place in order]
    title = TITLES.get(first, first)
    headers = ["case", *(f"{title}, {name.removeprefix(f'{first} ')}" for name in columns)]
    tables = [limited(headers, found, f"The worst by mean {title}", path.name, WORST_ROWS)]
    return Section("Worst cases first", cases=worst_cases(folder / "figures"), tables=tables, wide=True)


def _all_cases(folder: Path, measures: list[str]) -> Section:
    path, times = folder / "cases.csv", folder / "times.csv"
    rows, seconds = read_table(path), read_table(times)
    if not rows:
        return Section("All cases")
    columns = [f"{measure} mean" for measure in measures if f"{measure} mean" in rows[0]]
    found = [[row["case"], *(number_of(row[name]) for name in columns)] for row in rows]
    note = ""
    if seconds:
        note = f"Median time of a case: {statistics.median(map(number_of, column(seconds, 'seconds', times))):.2f} s."
    headers = ["case", *(TITLES.get(measure, measure) for measure in measures if f"{measure} mean" in rows[0])]
    return Section(
        "All cases",
        tables=[limited(headers, found, "Mean over the structures of a case", path.name, SHOWN_ROWS, note=note)],
    )


def _clicks(folder: Path) -> Section:
    """How scores rise with the number of clicks."""
    path = folder / "click_curve.csv"
    rows = read_table(path)
    names = ("clicks", "cases", "mean", "95 % low", "95 % high")
    values = zip(*(map(number_of, column(rows, name, path)) for name in names), strict=True)
    found = [
        [int(number_or(clicks, 0)), row["label"], int(number_or(cases, 0)), *numbers]
        for row, (clicks, cases, *numbers) in zip(rows, values, strict=True)
    ]
    headers = ["clicks in each structure", "structure", "cases", "mean", "95 % low", "95 % high"]
    figure = Picture(
        folder / "figures" / "click_curve.png",
        "Score over the number of simulated clicks in each structure, with 95 % intervals.",
        "Curve of the score over the number of clicks",
    )
    tables = [limited(headers, found, "Scores with clicks", path.name)] if found else []
    return Section("Gain from clicks", tables=tables, pictures=existing([figure]))


def _cells(folder: Path) -> ReportParts:
    """Report of `custom_apps.seg.evaluation_cells`."""
    numbers, sections = [], []
    for path in sorted(folder.glob("cells-*.csv")):
        rows = read_table(path)
        threshold = re.sub(r"^cells-|\.csv$", "", path.name)
        f1 = [number_of(value) for value in column(rows, "F1", path)]
        known = [value for value in f1 if value == value]
        if known:
            numbers += [
                Number(f"F1 at IoU {threshold}, median", f"{statistics.median(known):.3f}", "", _images(known)),
                Number(f"F1 at IoU {threshold}, mean", f"{statistics.fmean(known):.3f}", "", _images(known)),
            ]
        columns = [name for name in (rows[0] if rows else {}) if name != "case"]
        found = [[row["case"], *(number_of(row[name]) for name in columns)] for row in rows]
        found.sort(key=lambda row: (number_or(number_of(row[1 + columns.index("F1")]), -1.0), row[0]))
        tables = [limited(["image", *columns], found, "All images, the worst first", path.name)] if found else []
        sections.append(Section(f"Matches from IoU {threshold}", tables=tables))
    return ReportParts(EVALUATION, "Cells", numbers, sections=sections)


def _images(values: list[float]) -> str:
    return counted(len(values), "image")
