"""What a report shows of the brain bundle's results."""

from __future__ import annotations

from pathlib import Path

from custom_apps.brain.fold_titles import POOLED_NOTE, PUBLISHED_TITLES, SHOWN
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
    SHOWN_ROWS,
    WORST_ROWS,
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
)
from custom_apps.common.report_sections import (
    classification_numbers,
    classification_section,
    losses_parts,
    number_or,
    probability_parts,
    training_section,
)

MARKER = "Marker status of gliomas"
MARKERS = {
    "folds": ["folds.json"],
    "features": ["knn.json"],
    "losses": ["losses.json"],
    "prediction": ["markers.csv"],
}
ALL = "all cases"


def report_parts(folder: str | Path) -> ReportParts:
    """Parts of the report of an evaluation or a prediction.

    Args:
        folder: that ``evaluate.yaml``, ``evaluate_features.yaml``, ``evaluate_pretraining.yaml`` or ``inference.yaml``
            wrote.

    Raises:
        DataError: if it is none of them.
    """
    readers = {
        "folds": _folds,
        "features": _features,
        "losses": lambda found: losses_parts(found, "Restoration of brain volumes"),
        "prediction": _prediction,
    }
    return reported(Path(folder), readers, MARKERS)


def _folds(folder: Path) -> ReportParts:
    """Report of `custom_apps.brain.fold_table`."""
    content = read_object(folder / "folds.json")
    estimates, published = content.get("estimates", {}), content.get("published", {})
    numbers = classification_numbers(folder, unit="examination")
    mean = published.get("mean over folds", {}).get("roc_auc_score")
    if mean is not None:
        folds = sum(name.startswith("fold ") for name in published)
        numbers.append(
            Number("AUROC, mean over folds", f"{mean:.3f}", "no interval: folds share cases", f"{folds} folds")
        )
    subsets = [name for name in estimates if name != ALL and not name.startswith("fold ")]
    numbers += [
        estimate_number(f"AUROC, {name}", estimates[name]["auroc"], counted(int(estimates[name]["cases"]), "case"))
        for name in subsets
    ]
    figure = Picture(
        folder / "figures" / "folds.png",
        "Left: receiver operating characteristic of each fold (light) and of all cases together. Right: areas under "
        "the curve with 95 % intervals.",
        "ROC curves of the folds, and areas under them with intervals",
    )
    further = [
        classification_section(folder, path.name.removesuffix("results.json"), _title(path))
        for path in sorted(folder.glob("*_results.json"))
    ]
    sections = [
        _worst(folder),
        Section("Folds", tables=_fold_tables(estimates, published), pictures=existing([figure])),
        classification_section(folder, title="All cases together"),
        *further,
        training_section(folder),
        saliency_section(folder),
    ]
    note = "Every case is predicted by the model of the fold that has not seen it."
    return ReportParts(EVALUATION, MARKER, numbers, note, sections)


def _title(path: Path) -> str:
    return f"Only {path.name.removesuffix('_results.json').replace('_', ' ')}"


def _fold_tables(estimates: dict, published: dict) -> list[Table]:
    tables = []
    if estimates:
        rows = [[name, each.get("cases"), *(brief(each.get(m)) for m in SHOWN)] for name, each in estimates.items()]
        note = f"In brackets bootstrap intervals; decisions at probability 0.5. {POOLED_NOTE}"
        tables.append(Table(["cases of", "n", *SHOWN.values()], rows, "All cases and folds", note))
    if published:
        rows = [
            [t, *(number_of(each.get(name)) for each in published.values())] for name, t in PUBLISHED_TITLES.items()
        ]
        tables.append(Table(["measure", *published], rows, "As the publication counts"))
    return tables


def _worst(folder: Path) -> Section:
    path = folder / "out_of_fold.csv"
    rows = read_table(path)
    names = ("fold", "label", "probability_0", "probability_1")
    values = zip(*(map(number_of, column(rows, name, path)) for name in names), strict=True)
    found = [
        [row["case"], int(fold), int(label), one if label else zero]
        for row, (fold, label, zero, one) in zip(rows, values, strict=True)
    ]
    found.sort(key=lambda row: (number_or(row[3], -1.0), row[0]))
    headers = ["case", "fold", "class", "probability of its class"]
    tables = [limited(headers, found, "The cases that were furthest off", path.name, WORST_ROWS)] if found else []
    return Section("Worst cases first", cases=worst_cases(folder / "figures"), tables=tables, wide=True)


def _features(folder: Path) -> ReportParts:
    """Report of `custom_apps.brain.knn_evaluation`."""
    content = read_object(folder / "knn.json")
    cases = counted(int(content.get("cases", 0)), "case")
    pooled = content.get(ALL, {})
    titles = {"auroc": "AUROC by share of neighbors", "accuracy": "accuracy", "f1": "F1"}
    numbers = [
        estimate_number(t, pooled[name], cases, content.get("level")) for name, t in titles.items() if name in pooled
    ]
    published = content.get("published", {})
    names = list(next(iter(published.values()), {}))
    rows = [[fold, *(number_of(each.get(name)) for name in names)] for fold, each in published.items()]
    tables = [Table(["cases of", *names], rows, "Nearest neighbors", "knn_auc is that of the decisions, as published.")]
    path = folder / "figures" / "features.png"
    text = "Features of the frozen encoder on a plane by t-SNE. Distances between groups in such a picture mean little."
    sections = [
        Section("Features", pictures=existing([Picture(path, text, "Points of cases, coloured by class")])),
        Section("Folds", tables=tables if rows else []),
    ]
    note = f"{content.get('neighbors', '')} nearest neighbors among the cases of the other folds."
    return ReportParts(EVALUATION, "Features of the brain encoder", numbers, note, sections)


def _prediction(folder: Path) -> ReportParts:
    """Report of probabilities and maps of new examinations."""
    names = [row["file_name"] for row in read_table(folder / "markers.csv")]
    text = "Above FLAIR, below with the map of where the network responds, which does not explain its answer."
    pictures = {
        name: existing([Picture(picture_of(folder / "maps", f"{name}.nii", "_map.png"), text, f"Map of {name}")])
        for name in names[:SHOWN_ROWS]
    }
    shown = [name for name, found in pictures.items() if found][:MOST_PICTURES]
    return probability_parts(folder / "markers.csv", MARKER, {name: pictures[name] for name in shown})
