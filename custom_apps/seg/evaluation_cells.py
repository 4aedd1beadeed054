"""Scoring a folder of semantic cell predictions against instance references."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from custom_apps.common.errors import DataError
from custom_apps.common.statistics import bootstrap_mean
from custom_apps.common.table import text_table, write_csv
from custom_apps.seg.instance_metrics import instances_of, score_instances
from custom_apps.seg.overlap_metrics import OverlapCounts
from custom_apps.seg.volume_io import read_segmentation

REFERENCE_ENDING = "_label.tiff"


def evaluate_cells(
    prediction_dir: str | Path,
    reference_dir: str | Path,
    output_dir: str | Path | None = None,
    thresholds: Sequence[float] = (0.5,),
    count_boundary: bool = False,
    interior_label: int = 1,
    file_ending: str = ".png",
) -> str:
    """Scores instances rebuilt from the interior class, by U-Mamba's protocol for the NeurIPS 2022 cell images.

    Args:
        prediction_dir: folder of label maps ``{case}.png``.
        reference_dir: folder of instance maps ``{case}_label.tiff``.
        output_dir: where ``cells-<threshold>.csv`` is written for each threshold; nothing is written without it.
        thresholds: IoU from which a pair of instances is a match.
        count_boundary: score the instances at the border of an image too.
        interior_label: label whose connected components are the instances.
        file_ending: of the predictions.

    Returns:
        A table with the mean, its 95 % bootstrap interval over images, and the median of F1 at each threshold.

    Raises:
        DataError: naming the file, for a prediction that is missing or too many, and for a pair that differs in shape.
    """
    pairs = _pairs(Path(prediction_dir), Path(reference_dir), file_ending)
    rows: dict[float, list[dict]] = {threshold: [] for threshold in thresholds}
    for case, prediction_path, reference_path in pairs:
        semantic, reference = read_segmentation(prediction_path)[0][0, 0], _read_instances(reference_path)
        if semantic.shape != reference.shape:
            raise DataError(prediction_path, f"shape is {semantic.shape}", f"{reference.shape} as {reference_path}")
        instances = instances_of(semantic, interior_label)
        dice = OverlapCounts.of(instances > 0, reference > 0).dice("challenge")
        for threshold in thresholds:
            score = score_instances(instances, reference, threshold, count_boundary)
            rows[threshold].append(
                {
                    "case": case,
                    "true_num": score.tp + score.fn,
                    "pred_num": score.tp + score.fp,
                    "TP": score.tp,
                    "FN": score.fn,
                    "FP": score.fp,
                    "precision": score.precision,
                    "recall": score.recall,
                    "dice": dice,
                    "F1": score.f1,
                }
            )
    lines = []
    for threshold, cases in rows.items():
        if output_dir is not None:
            write_csv(cases, Path(output_dir) / f"cells-{threshold:g}.csv")
        values = [row["F1"] for row in cases]
        f1 = bootstrap_mean(values)
        lines.append((f"{threshold:g}", f1.cases, f1.value, f1.std, f1.low, f1.high, float(np.median(values))))
    return text_table(lines, ("IoU", "images", "mean F1", "std", "95 % low", "95 % high", "median F1"))


def _pairs(prediction_dir: Path, reference_dir: Path, file_ending: str) -> list[tuple[str, Path, Path]]:
    for folder in (prediction_dir, reference_dir):
        if not folder.is_dir():
            raise DataError(folder, "no such folder")
    references = {p.name.removesuffix(REFERENCE_ENDING): p for p in reference_dir.glob(f"*{REFERENCE_ENDING}")}
    predictions = {p.name.removesuffix(file_ending): p for p in prediction_dir.glob(f"*{file_ending}")}
    if not references:
        raise DataError(reference_dir, "no instance maps", f"files named {{case}}{REFERENCE_ENDING}")
    if missing := sorted(set(references) - set(predictions)):
        raise DataError(
            prediction_dir / f"{missing[0]}{file_ending}", "prediction is missing", "one for every reference"
        )
    if extra := sorted(set(predictions) - set(references)):
        raise DataError(predictions[extra[0]], "prediction has no reference", f"{extra[0]}{REFERENCE_ENDING}")
    return [(case, predictions[case], references[case]) for case in sorted(references)]


def _read_instances(path: Path) -> np.ndarray:
    """Instance numbers (H, W) of a TIFF file."""
    import tifffile

    try:
        instances = tifffile.imread(path)
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise DataError(path, f"cannot be read ({error})", "a TIFF image of instance numbers") from error
    if instances.ndim != 2 or instances.dtype.kind not in "ui":
        raise DataError(path, f"has shape {instances.shape}, type {instances.dtype}", "integers (H, W)")
    return instances
