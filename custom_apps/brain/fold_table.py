"""Out-of-fold predictions of a marker: table of cases, measures of all cases together, of each fold and of subsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.brain.fold_figures import draw_folds
from custom_apps.brain.fold_titles import POOLED_NOTE, PUBLISHED_TITLES, SHOWN
from custom_apps.brain.published_scores import mean_over_folds, published_scores
from custom_apps.common.classification_evaluation import ClassificationTable
from custom_apps.common.classification_metrics import classification_estimates
from custom_apps.common.gathering import each_once
from custom_apps.common.partial_file import write_json, write_text
from custom_apps.common.statistics import RESAMPLES, Estimate
from custom_apps.common.table import markdown_table, text_table, write_csv

COLUMNS = ("case", "fold", "label", "probability_0", "probability_1", "predicted")


class FoldTable:
    """Predictions of cases that the predicting model has not seen.

    Args:
        rows: of each case ``case``, ``fold``, ``label`` (0 or 1) and ``logits`` (of both classes). A case that comes
            twice counts once.
        subsets: name to the keys and values of rows that belong to it, such as ``{"IDH-mutant": {"idh": 1}}``.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], subsets: Mapping[str, Mapping[str, Any]] | None = None):
        self.rows = each_once([dict(row) for row in rows])
        for row in self.rows:
            shifted = np.asarray(row["logits"], np.float64) - np.max(row["logits"])
            row["probability_0"], row["probability_1"] = (np.exp(shifted) / np.exp(shifted).sum()).tolist()
            row["probability"] = row["probability_1"]
            row["predicted"] = int(np.argmax(row["logits"]))
        self.subsets = {
            name: [row for row in self.rows if all(row.get(key) == value for key, value in wanted.items())]
            for name, wanted in (subsets or {}).items()
        }
        self.folds = {
            fold: [row for row in self.rows if row["fold"] == fold]
            for fold in sorted({row["fold"] for row in self.rows})
        }

    def published(self) -> dict[str, dict[str, float]]:
        """Measures without intervals: ``fold 0`` …, ``mean over folds`` and ``all cases together``."""
        scores = {f"fold {fold}": _published(rows) for fold, rows in self.folds.items()}
        return scores | {
            "mean over folds": mean_over_folds(list(scores.values())),
            "all cases together": _published(self.rows),
        }

    def estimates(self, level: float = 0.95, resamples: int = RESAMPLES) -> dict[str, dict[str, Estimate]]:
        """Group of cases (``all cases``, subsets, folds) to measure at threshold 0.5 to value with interval."""
        groups = {"all cases": self.rows, **self.subsets, **{f"fold {fold}": rows for fold, rows in self.folds.items()}}
        return {
            name: classification_estimates(*_columns(rows), 0.5, level, resamples)
            for name, rows in groups.items()
            if rows
        }

    def write(
        self,
        folder: str | Path,
        level: float = 0.95,
        resamples: int = RESAMPLES,
        class_names: Sequence[str] = ("0", "1"),
    ) -> str:
        """Writes the report.

        ``out_of_fold.csv`` has a row a case. ``folds.md`` and ``folds.json`` have the measures of all cases, subsets
        and folds, ``figures/folds.png`` the curves; and there are the files of
        :meth:`~custom_apps.common.classification_evaluation.ClassificationTable.write` for all cases together, and with
        the name of the subset in front for every subset with cases of both classes.

        Args:
            folder: made when missing; files of these names are replaced.
            level: coverage of the intervals.
            resamples: bootstrap samples of cases.
            class_names: of class 0 and 1.

        Returns:
            The results as text for a terminal.
        """
        folder = Path(folder)
        write_csv(self.rows, folder / "out_of_fold.csv", COLUMNS)
        estimates, published = self.estimates(level, resamples), self.published()
        write_json({"estimates": _plain(estimates), "published": published, "level": level}, folder / "folds.json")
        rows = [
            [name, each["auroc"].cases, self._positives(name), *(each[measure].brief() for measure in SHOWN)]
            for name, each in estimates.items()
        ]
        headers = ["cases of", "n", f"n {class_names[1]}", *SHOWN.values()]
        spread = _spread(published, list(self.folds))
        write_text(
            f"{markdown_table(rows, headers)}\n\n{100 * level:g} % bootstrap intervals; decisions at probability 0.5. "
            f"{POOLED_NOTE}\n\n{_published_table(published, spread)}\n",
            folder / "folds.md",
        )
        draw_folds(self.folds, folder / "figures" / "folds.png", estimates)
        ClassificationTable(self.rows).write(folder, level, resamples, class_names)
        for name, subset in self.subsets.items():
            if len({row["label"] for row in subset}) == 2:
                prefix = "".join(c if c.isalnum() else "_" for c in name.lower()) + "_"
                ClassificationTable(subset).write(folder, level, resamples, class_names, prefix)
        return f"{text_table(rows, headers)}\nmean over folds: {spread}"

    def _positives(self, name: str) -> int:
        groups = {"all cases": self.rows, **self.subsets}
        rows = groups[name] if name in groups else self.folds[int(name.removeprefix("fold "))]
        return sum(row["label"] for row in rows)


def _columns(rows: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row["label"] for row in rows], int), np.array([row["probability_1"] for row in rows])


def _published(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return published_scores(_columns(rows)[0], np.array([row["logits"] for row in rows], np.float64))


def _spread(published: Mapping[str, Mapping[str, float]], folds: Sequence[int]) -> str:
    values = np.array([published[f"fold {fold}"]["roc_auc_score"] for fold in folds])
    deviation = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"AUROC {values.mean():.3f}{deviation} ({len(values)} folds)"


def _published_table(published: Mapping[str, Mapping[str, float]], spread: str) -> str:
    rows = [[title, *(scores[name] for scores in published.values())] for name, title in PUBLISHED_TITLES.items()]
    return f"As the publication counts; mean over folds {spread}.\n\n{markdown_table(rows, ['measure', *published])}"


def _plain(estimates: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Any]:
    return {
        group: {"cases": each["auroc"].cases}
        | {measure: {"value": e.value, "low": e.low, "high": e.high} for measure, e in each.items()}
        for group, each in estimates.items()
    }
