"""Parts of reports that several rooms share: classification, class probabilities, losses of autoencoders, training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from custom_apps.common.classification_metrics import OPTIMISTIC, TITLES
from custom_apps.common.report_files import column, existing, read_object, read_table, saliency_section, worst_cases
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

HEADLINES = ("auroc", "sensitivity", "specificity", "calibration_error")
HALF = "threshold 0.5"


def classification_numbers(folder: Path, prefix: str = "", unit: str = "case") -> list[Number]:
    """Headline numbers of the results of two classes, at threshold 0.5.

    Args:
        folder: with the files of :class:`custom_apps.common.classification_evaluation.ClassificationTable`.
        prefix: before their names.
        unit: what a case is.
    """
    content = read_object(folder / f"{prefix}results.json")
    cases = f"{counted(int(content.get('cases', 0)), unit)}, {content.get('positive', 0)} of class 1"
    at_half = content.get("thresholds", {}).get(HALF, {})
    return [
        estimate_number(TITLES[name], at_half[name], cases, content.get("level"))
        for name in HEADLINES
        if name in at_half
    ]


def classification_section(
    folder: Path, prefix: str = "", title: str = "Curves and measures", unit: str = "case"
) -> Section:
    """Figure and measures at every threshold; see `classification_numbers`."""
    content = read_object(folder / f"{prefix}results.json")
    thresholds = content.get("thresholds", {})
    rows = [[name, *(brief(each.get(measure)) for each in thresholds.values())] for measure, name in TITLES.items()]
    tables = []
    if thresholds:
        counts = f"{counted(int(content.get('cases', 0)), unit)}, {content.get('positive', 0)} of class 1."
        level, caution = 100 * number_of(content.get("level", 0.95)), OPTIMISTIC.replace("`", "")
        note = f"{counts} In brackets {level:g} % bootstrap intervals. {caution}"
        tables.append(Table(["measure", *thresholds], rows, "", note))
    figure = Picture(
        folder / "figures" / f"{prefix}classification.png",
        "Receiver operating characteristic, precision over recall, calibration with the number of cases as bars, and "
        "decisions at probability 0.5.",
        "Four panels: ROC curve, precision-recall curve, calibration curve, confusion matrix",
    )
    return Section(title, tables=tables, pictures=existing([figure]))


def wrong_and_sure(folder: Path, prefix: str = "", class_names: Sequence[str] = ("0", "1")) -> Section:
    """Cases in the order of how little probability they gave to their class, with pictures where there are."""
    path = folder / f"{prefix}cases.csv"
    rows = read_table(path)
    labels, probabilities = (map(number_of, column(rows, name, path)) for name in ("label", "probability"))
    found = [
        [row["case"], class_names[int(label)], probability if label else 1 - probability]
        for row, label, probability in zip(rows, labels, probabilities, strict=True)
        if not math.isnan(label)
    ]
    found.sort(key=lambda row: (number_or(row[2], -1.0), row[0]))
    headers = ["case", "class", "probability of its class"]
    tables = [limited(headers, found, "The cases that were furthest off", path.name, WORST_ROWS)] if found else []
    return Section("Worst cases first", cases=worst_cases(folder / "figures") if not prefix else [], tables=tables)


def probability_parts(path: Path, subject: str, pictures: Mapping[str, Sequence[Picture]] | None = None) -> ReportParts:
    """Report of a table of class probabilities of new cases, the least certain first.

    Args:
        path: written by :class:`custom_apps.common.class_probabilities.SaveProbabilities`.
        subject: what was predicted.
        pictures: name of a case to its pictures.
    """
    rows = read_table(path)
    column(rows, "class", path)
    values = [number_of(value) for value in column(rows, "probability", path)]
    found = [[row["file_name"], value, row["class"]] for row, value in zip(rows, values, strict=True)]
    found.sort(key=lambda row: (abs(number_or(row[1], 0.5) - 0.5), row[0]))
    classes = sorted({row[2] for row in found})
    numbers = [Number("cases", str(len(found)))]
    numbers += [Number(f"called {name}", str(sum(row[2] == name for row in found))) for name in classes]
    cases = [
        Case(name, f"probability {text_of(value)}, called {called}", (pictures or {})[name])
        for name, value, called in found
        if (pictures or {}).get(name)
    ]
    table = limited(["case", "probability of class 1", "called"], found, "All cases", path.name)
    section = Section("The least certain first", cases=cases, tables=[table], wide=True)
    return ReportParts(PREDICTION, subject, numbers, sections=[section, saliency_section(path.parent)])


def losses_parts(folder: Path, subject: str) -> ReportParts:
    """Report of the error of an autoencoder, see :class:`custom_apps.common.case_losses.CaseLosses`."""
    content, path = read_object(folder / "losses.json"), folder / "losses.csv"
    number = estimate_number("mean error over hidden patches", content, counted(int(content.get("cases", 0)), "case"))
    rows = read_table(path)
    found = sorted(
        ([row["case"], number_of(loss)] for row, loss in zip(rows, column(rows, "loss", path), strict=True)),
        key=lambda row: (-number_or(row[1], math.inf), row[0]),
    )
    tables = [limited(["case", "error"], found, "The largest errors", path.name, WORST_ROWS, digits=4)] if found else []
    sections = [
        Section("Worst cases first", tables=tables, cases=worst_cases(folder / "figures")),
        Section("Reconstructions", pictures=reconstruction_pictures(folder)),
        training_section(folder),
    ]
    return ReportParts(EVALUATION, subject, [number], sections=sections)


def reconstruction_pictures(folder: Path) -> list[Picture]:
    """What a masked autoencoder made of some cases."""
    path = folder / "figures" / "reconstructions.png"
    return existing(
        [Picture(path, "What was hidden, and what the network made of it.", "Rows of images: reconstructions")]
    )


def training_section(folder: Path) -> Section:
    """Curves of the training whose model was evaluated, from the folder above."""
    paths = sorted(folder.resolve().parent.glob("figures/training_curves.png"))
    paths += sorted(folder.resolve().parent.glob("fold_*/figures/training_curves.png"))
    pictures = [
        Picture(path, _fold(path), f"Curves of loss and measures over epochs {_fold(path)}".strip()) for path in paths
    ]
    return Section("Training", pictures=pictures)


def number_or(value: float, other: float) -> float:
    """``value``, or ``other`` where it is NaN."""
    return other if math.isnan(value) else value


def _fold(path: Path) -> str:
    name = path.parent.parent.name
    return f"Fold {name.removeprefix('fold_')}" if name.startswith("fold_") else ""
