"""What a report shows of predictions for new videos."""

from __future__ import annotations

import math
from pathlib import Path

from custom_apps.common.report_files import (
    MOST_PICTURES,
    column,
    existing,
    picture_of,
    read_table,
    saliency_section,
)
from custom_apps.common.report_parts import (
    PREDICTION,
    Case,
    Number,
    Picture,
    ReportParts,
    Section,
    counted,
    limited,
    number_of,
)
from custom_apps.common.report_sections import number_or
from custom_apps.echo.report_fraction import FRACTION
from custom_apps.echo.report_ventricle import VENTRICLE


def predicted_fraction_parts(folder: Path) -> ReportParts:
    """Report of `custom_apps.echo.ef_export`, the videos whose clips disagree the most first."""
    path = folder / "ef.csv"
    rows = read_table(path)
    names = ("ef_percent", "std_over_clips", "clips", "frames", "fps")
    values = zip(*(map(number_of, column(rows, name, path)) for name in names), strict=True)
    found = [[row["file_name"], *numbers] for row, numbers in zip(rows, values, strict=True)]
    found.sort(key=lambda row: (-number_or(row[2], 0.0), row[0]))
    table = limited(
        ["video", "ejection fraction, %", "SD over clips", "clips", "frames", "frames/s"],
        [[*row[:3], *(None if math.isnan(value) else round(value) for value in row[3:5]), row[5]] for row in found],
        "All videos",
        path.name,
        digits=1,
        note="SD over clips: standard deviation of the predictions of a video's clips.",
    )
    numbers = [Number("videos", str(len(found)))]
    if len(found) == 1:
        numbers = [Number("ejection fraction", f"{found[0][1]:.1f} %", cases=counted(int(found[0][3]), "clip"))]
    cases = [
        Case(row[0], f"ejection fraction {row[1]:.1f} %", shown)
        for row in found[:MOST_PICTURES]
        if (shown := _video_pictures(folder, row[0]))
    ]
    sections = [Section("The least certain first", cases=cases, tables=[table], wide=True), saliency_section(folder)]
    return ReportParts(PREDICTION, FRACTION, numbers, sections=sections)


def video_parts(folder: Path) -> ReportParts:
    """Report of pictures alone: ventricles or reconstructions of new videos."""
    endings = ("_lv_area.png", "_lv.png", "_reconstruction.png", "_lv.nii.gz", "_lv.avi")
    found = {path.name.removesuffix(e) for e in endings for path in folder.glob(f"*{e}") if path.name.endswith(e)}
    names = sorted(name for name in found if not name.endswith("_lv"))
    cases = [
        Case(name, "", shown) for name in names[:MOST_PICTURES] if (shown := _video_pictures(folder, f"{name}.avi"))
    ]
    text = [f"Pictures of the first {MOST_PICTURES} videos."] if len(names) > MOST_PICTURES else []
    files = [[name, ", ".join(sorted(p.name for p in folder.glob(f"{_literal(name)}_*")))] for name in names]
    table = limited(["video", "files"], files, "Files", str(folder))
    subject = "Restoration of ultrasound videos" if list(folder.glob("*_reconstruction.png")) else VENTRICLE
    sections = [Section("Videos", text, cases, [table], wide=True), saliency_section(folder)]
    return ReportParts(PREDICTION, subject, [Number("videos", str(len(names)))], sections=sections)


def _video_pictures(folder: Path, file_name: str) -> list[Picture]:
    """Pictures of a predicted video that are there."""
    captions = {
        "_lv_area.png": "Area of the left ventricle over time, with detected diastoles and systoles.",
        "_lv.png": "Frames of the video with the left ventricle in blue.",
        "_reconstruction.png": "Frames, what was hidden of them, and what the network made of it.",
    }
    return existing(
        Picture(picture_of(folder, file_name, ending), text, f"{text} Video {file_name}")
        for ending, text in captions.items()
    )


def _literal(name: str) -> str:
    """A name for a pattern of files that finds nothing else."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
