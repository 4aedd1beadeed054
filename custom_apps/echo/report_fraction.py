"""What a report shows of ejection fractions that were measured against reported ones."""

from __future__ import annotations

import math
from pathlib import Path

from custom_apps.common.report_files import column, existing, read_object, read_table, saliency_section, worst_cases
from custom_apps.common.report_parts import (
    EVALUATION,
    WORST_ROWS,
    Picture,
    ReportParts,
    Section,
    Table,
    brief,
    counted,
    estimate_number,
    limited,
    number_of,
)
from custom_apps.common.report_sections import number_or, training_section
from custom_apps.echo.ef_metrics import title_of

FRACTION = "Ejection fraction"
HEADLINES = {"mae": " points", "rmse": " points", "r2": "", "bias": " points"}
FIGURES = {
    "scatter.png": "Predicted over reported ejection fraction; the diagonal is agreement.",
    "bland_altman.png": "Difference of prediction and report over their mean, with bias and 95 % limits of agreement "
    "(Bland and Altman 1986).",
    "absolute_errors.png": "Distribution of the absolute errors.",
    "roc.png": "Receiver operating characteristic for reduced ejection fraction.",
}


def fraction_parts(folder: Path) -> ReportParts:
    """Report of `custom_apps.echo.ef_report`."""
    content = read_object(folder / "results.json")
    protocols = content.get("protocols", {})
    best = _most_clips(list(protocols))
    estimates = protocols.get(best, {})
    numbers = [
        estimate_number(title_of(name), estimates[name], videos_of(estimates[name]), digits=digits, unit=unit)
        for name, unit in HEADLINES.items()
        if name in estimates
        for digits in [2 if unit else 3]
    ]
    numbers += [
        estimate_number(title_of(name), estimate, videos_of(estimate))
        for name, estimate in estimates.items()
        if name.startswith("auroc_below")
    ]
    sections = [
        _worst_fractions(folder, best),
        Section("Agreement with the reported values", pictures=fraction_figures(folder)),
        Section("Measures", tables=fraction_table(protocols, str(content.get("interval", "")))),
        training_section(folder),
        saliency_section(folder),
    ]
    note = (
        f"By the protocol: {protocols[best].get('title', best)}. Errors are predicted minus reported." if best else ""
    )
    return ReportParts(EVALUATION, FRACTION, numbers, note, sections)


def fraction_figures(folder: Path) -> list[Picture]:
    """Those of the figures of ejection fraction that are there."""
    return existing(Picture(folder / "figures" / name, text, text) for name, text in FIGURES.items())


def fraction_table(protocols: dict, note: str) -> list[Table]:
    """Measures of ejection fraction by protocol or method; none without any."""
    measures = [name for each in protocols.values() for name, value in each.items() if isinstance(value, dict)]
    rows = [
        [title_of(name), *(brief(each.get(name)) for each in protocols.values())] for name in dict.fromkeys(measures)
    ]
    titles = [str(each.get("title", name)) for name, each in protocols.items()]
    note = f"{note[:1].upper()}{note[1:]}." if note else ""
    return [Table(["measure", *titles], rows, "Ejection fraction, percent", note)] if rows else []


def _worst_fractions(folder: Path, protocol: str) -> Section:
    path = folder / "videos.csv"
    rows = read_table(path)
    reported_values = map(number_of, column(rows, "ef_percent", path))
    predicted = map(number_of, column(rows, protocol, path)) if protocol else [math.nan] * len(rows)
    found = [
        [row["file_name"], one, other, other - one]
        for row, one, other in zip(rows, reported_values, predicted, strict=True)
    ]
    found.sort(key=lambda row: (-abs(number_or(row[3], math.inf)), row[0]))
    headers = ["video", "reported", "predicted", "error, points"]
    tables = [limited(headers, found, "The largest errors", path.name, WORST_ROWS, digits=1)] if found else []
    return Section("Worst cases first", cases=worst_cases(folder / "figures"), tables=tables, wide=True)


def _most_clips(names: list[str]) -> str:
    """The protocol that figures show; clips before each systole are a further one."""
    regular = [name for name in names if name != "beat_by_beat"]
    return (regular or names or [""])[-1]


def videos_of(estimate: dict) -> str:
    """Over how many videos a value is, in words."""
    return counted(int(number_or(number_of(estimate.get("cases")), 0)), "video")
