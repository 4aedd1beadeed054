"""What a report shows of the left ventricle: overlap with tracings, area over time, ejection fraction from masks."""

from __future__ import annotations

from pathlib import Path

from custom_apps.common.report_files import (
    MOST_PICTURES,
    column,
    existing,
    read_object,
    read_table,
    saliency_section,
    worst_cases,
)
from custom_apps.common.report_parts import (
    EVALUATION,
    WORST_ROWS,
    Case,
    Picture,
    ReportParts,
    Section,
    Table,
    brief,
    estimate_number,
    limited,
    number_of,
)
from custom_apps.common.report_sections import number_or, training_section
from custom_apps.echo.report_fraction import fraction_figures, fraction_table, videos_of

VENTRICLE = "Left ventricle"
PHASES = {"overall": "both traced frames", "ed": "end-diastole", "es": "end-systole"}
WAYS = {"per_video": "mean over videos", "pooled": "all pixels together"}
SHEET = "_lv.png"


def ventricle_parts(folder: Path) -> ReportParts:
    """Report of an evaluation of masks: of the clips between traced frames, and of whole videos.

    Args:
        folder: with ``dice.json``, and the results of whole videos in it or in ``videos``.
    """
    from custom_apps.echo.lv_evaluation import TITLES

    whole = folder / "videos" if (folder / "videos").is_dir() else folder
    dice = read_object(folder / "dice.json")
    content = read_object(whole / "results.json")
    methods = {
        name: {"title": TITLES.get(name, name), **each} for name, each in content.get("ejection_fraction", {}).items()
    }
    per_video = dice.get("per_video", {})
    numbers = [
        estimate_number(f"Dice, {title}", per_video[phase], videos_of(per_video[phase]))
        for phase, title in PHASES.items()
        if phase in per_video
    ]
    numbers += [
        estimate_number(
            f"MAE of ejection fraction, {each['title']}", each["mae"], videos_of(each["mae"]), digits=1, unit=" points"
        )
        for each in methods.values()
        if "mae" in each
    ]
    curves = Picture(
        whole / "figures" / "area_curves.png",
        "Area of the ventricle over time. Triangles: detected end-diastole and end-systole; dotted: traced frames.",
        "Curves of the area of the left ventricle over time, one panel a video",
    )
    sections = [
        _worst(folder),
        Section("Area over time", pictures=existing([curves])),
        Section("Frames", cases=_sheets(whole / "figures"), wide=True),
        Section(
            "Ejection fraction from the masks", tables=fraction_table(methods, ""), pictures=fraction_figures(whole)
        ),
        Section("Overlap with the tracings", tables=_overlap(dice)),
        training_section(folder),
        saliency_section(folder),
    ]
    return ReportParts(EVALUATION, VENTRICLE, numbers, sections=sections)


def _overlap(dice: dict) -> list[Table]:
    ways = {way: title for way, title in WAYS.items() if way in dice}
    rows = [[title, *(brief(dice[way].get(phase)) for way in ways)] for phase, title in PHASES.items()]
    note = "In brackets 95 % bootstrap intervals over videos."
    return [Table(["Dice of the left ventricle", *ways.values()], rows, "", note)] if ways else []


def _worst(folder: Path) -> Section:
    path = folder / "dice.csv"
    rows = read_table(path)
    values = zip(*(map(number_of, column(rows, name, path)) for name in ("Overall", "Large", "Small")), strict=True)
    found = [[row["Filename"], *numbers] for row, numbers in zip(rows, values, strict=True)]
    found.sort(key=lambda row: (number_or(row[1], -1.0), row[0]))
    headers = ["video", "Dice, both frames", "end-diastole", "end-systole"]
    tables = [limited(headers, found, "The lowest Dice", path.name, WORST_ROWS)] if found else []
    return Section("Worst cases first", cases=worst_cases(folder / "figures"), tables=tables, wide=True)


def _sheets(figures: Path) -> list[Case]:
    paths = sorted(figures.glob(f"*{SHEET}"))[:MOST_PICTURES]
    names = [path.name.removesuffix(SHEET) for path in paths]
    return [
        Case(
            name, "", [Picture(path, "The left ventricle in blue.", f"Frames of video {name} with the left ventricle")]
        )
        for name, path in zip(names, paths, strict=True)
    ]
