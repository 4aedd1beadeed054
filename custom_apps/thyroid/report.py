"""What a report shows of the thyroid bundle's results."""

from __future__ import annotations

from pathlib import Path

from custom_apps.common.report_files import (
    MOST_PICTURES,
    column,
    existing,
    picture_of,
    read_object,
    read_table,
    reported,
    saliency_section,
    worst_cases,
)
from custom_apps.common.report_parts import (
    EVALUATION,
    PREDICTION,
    WORST_ROWS,
    Case,
    Number,
    Picture,
    ReportParts,
    Section,
    Table,
    brief,
    counted,
    estimate_number,
    limited,
    number_of,
    text_of,
)
from custom_apps.common.report_sections import (
    classification_numbers,
    classification_section,
    losses_parts,
    number_or,
    probability_parts,
    training_section,
    wrong_and_sure,
)
from custom_apps.thyroid.segmentation_metrics import KINDS, TITLES

CLASSES, NODULES = "Classes of thyroid images", "Thyroid nodules"
MARKERS = {
    "scores": ["cases.csv"],
    "losses": ["losses.json"],
    "nodules": ["nodules.csv"],
    "classes": ["classes.csv"],
}


def report_parts(folder: str | Path) -> ReportParts:
    """Parts of the report of an evaluation or a prediction.

    Args:
        folder: that ``evaluate.yaml``, ``inference.yaml`` or one of their overlays wrote.

    Raises:
        DataError: if it is none of them.
    """
    readers = {
        "scores": _evaluation,
        "losses": lambda found: losses_parts(found, "Restoration of thyroid images"),
        "nodules": _masks,
        "classes": lambda found: probability_parts(found / "classes.csv", CLASSES),
    }
    return reported(Path(folder), readers, MARKERS)


def _evaluation(folder: Path) -> ReportParts:
    if "thresholds" in read_object(folder / "results.json"):
        sections = [
            wrong_and_sure(folder),
            classification_section(folder, unit="image"),
            training_section(folder),
            saliency_section(folder),
        ]
        return ReportParts(EVALUATION, CLASSES, classification_numbers(folder, unit="image"), sections=sections)
    return _outlines(folder)


def _outlines(folder: Path) -> ReportParts:
    """Report of `custom_apps.thyroid.nodule_scores`."""
    content, path = read_object(folder / "results.json"), folder / "cases.csv"
    images, level = int(content.get("images", 0)), content.get("level")
    chosen = (("pooled", "iou"), ("pooled", "dice"), ("per_image", "dice"), ("per_image", "hd95_pixels"))
    numbers = [
        estimate_number(
            f"{TITLES[name]}, {KINDS[kind]}", estimate, f"{int(estimate.get('images', images))} images", level
        )
        for kind, name in chosen
        if (estimate := content.get(kind, {}).get(name))
    ]
    numbers += [
        Number(title, str(content[key]), cases=counted(images, "image"))
        for key, title in (("missed", "nodules missed altogether"), ("alarms", "found where there is none"))
        if key in content
    ]
    kinds = [kind for kind in KINDS if kind in content]
    measures = [[title, *(brief(content[kind].get(name)) for kind in kinds)] for name, title in TITLES.items()]
    tables = [
        Table(
            ["measure", *(KINDS[kind] for kind in kinds)],
            measures,
            "",
            f"{counted(images, 'image')}; in brackets bootstrap intervals over images. "
            "Results of different columns cannot be compared with each other.",
        )
    ]
    sheet = Picture(
        folder / "figures" / "overlays.png",
        "Images from the worst to the best Dice; green: reference, orange: prediction.",
        "Ultrasound images with the outlines of reference and prediction",
    )
    sections = [
        _worst_outlines(folder, path),
        Section("Outlines", pictures=existing([sheet])),
        Section("Measures", tables=tables if kinds else []),
        training_section(folder),
        saliency_section(folder),
    ]
    return ReportParts(EVALUATION, NODULES, numbers, sections=sections)


def _worst_outlines(folder: Path, path: Path) -> Section:
    rows = read_table(path)
    names = ("dice", "iou", "hd95_pixels")
    values = zip(*(map(number_of, column(rows, name, path)) for name in names), strict=True)
    found = [[row["case"], *numbers] for row, numbers in zip(rows, values, strict=True)]
    found.sort(key=lambda row: (number_or(row[1], 2.0), row[0]))
    headers = ["image", "Dice", "IoU", "HD95, pixels"]
    tables = [limited(headers, found, "The lowest Dice", path.name, WORST_ROWS)] if found else []
    return Section("Worst cases first", cases=worst_cases(folder / "figures"), tables=tables)


def _masks(folder: Path) -> ReportParts:
    """Report of `custom_apps.thyroid.mask_export`: images with the least certain nodules first."""
    path = folder / "nodules.csv"
    rows = read_table(path)
    columns = ("nodule_share", "parts", "highest_probability")
    values = zip(*(map(number_of, column(rows, name, path)) for name in columns), strict=True)
    found = [[row["file_name"], *numbers] for row, numbers in zip(rows, values, strict=True)]
    found.sort(key=lambda row: (number_or(row[3], 0.0), row[0]))
    without = sum(row[1] == 0 for row in found)
    numbers = [
        Number("images", str(len(found))),
        Number("with a nodule", str(len(found) - without)),
        Number("with several parts", str(sum(row[2] > 1 for row in found)), cases="perhaps a wrong outline"),
    ]
    table = limited(
        ["image", "nodule, % of the image", "parts", "highest probability"],
        [[name, 100 * share, int(number_or(parts, 0)), highest] for name, share, parts, highest in found],
        "All images",
        path.name,
    )
    cases = [
        Case(
            name,
            f"{100 * share:.1f} % of the image, highest probability {text_of(highest)}",
            _overlay(folder, name),
        )
        for name, share, _, highest in found[:MOST_PICTURES]
    ]
    text = [f"Pictures of the first {MOST_PICTURES}."] if len(found) > MOST_PICTURES else []
    cases = [case for case in cases if case.pictures]
    sections = [Section("The least certain first", text, cases, [table]), saliency_section(folder)]
    return ReportParts(PREDICTION, NODULES, numbers, sections=sections)


def _overlay(folder: Path, name: str) -> list[Picture]:
    path = picture_of(folder, name, "_overlay.png")
    return existing([Picture(path, "Orange: outline of the nodule.", f"Outline of a nodule in {name}")])
