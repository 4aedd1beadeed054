"""What a report shows of the echocardiography bundle's results."""

from __future__ import annotations

from pathlib import Path

from custom_apps.common.report_files import reported, saliency_section
from custom_apps.common.report_parts import EVALUATION, ReportParts, Section
from custom_apps.common.report_sections import (
    classification_numbers,
    classification_section,
    losses_parts,
    probability_parts,
    training_section,
    wrong_and_sure,
)
from custom_apps.echo.report_fraction import fraction_parts
from custom_apps.echo.report_predictions import predicted_fraction_parts, video_parts
from custom_apps.echo.report_ventricle import ventricle_parts

LESIONS = "Breast lesions"
MARKERS = {
    "ventricle": ["dice.json", "size.csv"],
    "fraction": ["clips.csv", "videos.csv"],
    "lesions": ["cases.csv"],
    "losses": ["losses.json"],
    "predicted fraction": ["ef.csv"],
    "predicted lesions": ["lesions.csv"],
    "videos": ["*_lv.nii.gz", "*_lv.avi", "*_lv.png", "*_lv_area.png", "*_reconstruction.png"],
}


def report_parts(folder: str | Path) -> ReportParts:
    """Parts of the report of an evaluation or a prediction.

    Args:
        folder: that ``evaluate.yaml``, ``inference.yaml`` or one of their overlays wrote.

    Raises:
        DataError: if it is none of them.
    """
    readers = {
        "ventricle": ventricle_parts,
        "fraction": fraction_parts,
        "lesions": _lesions,
        "losses": lambda found: losses_parts(found, "Restoration of ultrasound videos"),
        "predicted fraction": predicted_fraction_parts,
        "predicted lesions": lambda found: probability_parts(found / "lesions.csv", LESIONS),
        "videos": video_parts,
    }
    return reported(Path(folder), readers, MARKERS)


def _lesions(folder: Path) -> ReportParts:
    sections = [
        wrong_and_sure(folder),
        classification_section(folder, unit="video"),
        classification_section(folder, "frame_", "By the frames alone", "video")
        if (folder / "frame_results.json").is_file()
        else Section("By the frames alone"),
        training_section(folder),
        saliency_section(folder),
    ]
    return ReportParts(EVALUATION, LESIONS, classification_numbers(folder, unit="video"), sections=sections)
