"""Scores of many cases: per-case CSV, per-structure table with intervals, and nnU-Net's summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.common.partial_file import write_json, write_text
from custom_apps.common.statistics import Estimate, bootstrap_mean
from custom_apps.common.table import markdown_table, text_table, write_csv
from custom_apps.seg.protocol import COUNTS, SegmentationProtocol

Row = dict[str, Any]

NNUNET_NAMES = {"dice": "Dice", "iou": "IoU", "tp": "TP", "fp": "FP", "fn": "FN", "tn": "TN"}
TABLE_HEADERS = ("label", "measure", "cases", "mean", "std", "95 % low", "95 % high", "infinite")


class ScoreTables:
    """What is reported about a set of scored cases.

    Args:
        rows: rows of :meth:`SegmentationProtocol.score` of all cases; a case that comes twice (ranks of a distributed
            run may share one) counts once.
        protocol: the protocol they were scored by.
    """

    def __init__(self, rows: Sequence[Row], protocol: SegmentationProtocol):
        self.protocol = protocol
        unique = {(row["case"], row["label"]): row for row in rows}
        order = {structure.name: number for number, structure in enumerate(protocol.structures)}
        self.rows = sorted(unique.values(), key=lambda row: (row["case"], order[row["label"]]))
        self.cases = sorted({row["case"] for row in self.rows})

    def values(self, measure: str, label: str | None = None) -> np.ndarray:
        """A measure of one structure, a number per case in case order; of all structures their mean in each case.

        The mean over structures leaves NaN and infinite values out and is NaN when nothing is left.
        """
        if label is not None:
            return np.array([row[measure] for row in self.rows if row["label"] == label], np.float64)
        per_case = [[row[measure] for row in self.rows if row["case"] == case] for case in self.cases]
        return np.array([_finite_mean(values) for values in per_case], np.float64)

    def mean(self, measure: str) -> float:
        """The headline number: mean over structures and cases in the protocol's order of averaging."""
        if self.protocol.average == "cases":
            return _finite_mean(self.values(measure))
        return _finite_mean([_finite_mean(self.values(measure, s.name)) for s in self.protocol.structures])

    def estimates(self) -> list[tuple[str, str, Estimate, int]]:
        """Per structure and measure: name, measure, mean with interval over cases, and how many cases were infinite.

        The last entries, named ``mean``, are over cases of the mean over structures in a case.
        """
        found = []
        for label in [*(structure.name for structure in self.protocol.structures), None]:
            for measure in self.protocol.measures:
                values = self.values(measure, label)
                finite = values[~np.isinf(values)]
                found.append((label or "mean", measure, bootstrap_mean(finite), len(values) - len(finite)))
        return found

    def text(self) -> str:
        """The per-structure table for a terminal."""
        return text_table(self._table_rows(), TABLE_HEADERS) + "\n" + self._protocol_line()

    def summary(self, files: Mapping[str, tuple[str, str]] | None = None) -> dict[str, Any]:
        """The content of nnU-Net's ``summary.json``: per case, mean per label, and mean over the foreground.

        Args:
            files: case to predicted and reference file.
        """
        keys = {str(s.ids[0] if len(s.ids) == 1 else s.ids): s.name for s in self.protocol.structures}
        names = [*(name for name in self.protocol.measures), *COUNTS]
        per_case = []
        for case in self.cases:
            predicted, reference = (files or {}).get(case, (None, None))
            by_label = {row["label"]: row for row in self.rows if row["case"] == case}
            metrics = {key: {_nnunet(name): by_label[label][name] for name in names} for key, label in keys.items()}
            per_case.append(
                {"case": case, "prediction_file": predicted, "reference_file": reference, "metrics": metrics}
            )
        means = {
            key: {_nnunet(name): _finite_mean(self.values(name, label)) for name in names}
            for key, label in keys.items()
        }
        foreground = {_nnunet(name): _finite_mean([mean[_nnunet(name)] for mean in means.values()]) for name in names}
        return {
            "foreground_mean": foreground,
            "mean": means,
            "metric_per_case": per_case,
            "label_names": keys,
            "protocol": self._protocol_line(),
        }

    def write(self, folder: str | Path, files: Mapping[str, tuple[str, str]] | None = None) -> None:
        """Writes ``cases.csv``, ``structures.csv``, ``structures.md`` and ``summary.json``.

        Args:
            folder: made when missing; files of these names are replaced.
            files: case to predicted and reference file, for the summary.
        """
        folder = Path(folder)
        write_csv(self._case_rows(), folder / "cases.csv")
        write_csv([dict(zip(TABLE_HEADERS, row, strict=True)) for row in self._table_rows()], folder / "structures.csv")
        table = markdown_table(self._table_rows(), TABLE_HEADERS)
        write_text(f"{table}\n\n{self._protocol_line()}\n", folder / "structures.md")
        write_json(self.summary(files), folder / "summary.json")

    def _case_rows(self) -> list[Row]:
        """A row per case; a column per measure and structure."""
        rows: dict[str, Row] = {case: {"case": case} for case in self.cases}
        for measure in self.protocol.measures:
            for row in self.rows:
                rows[row["case"]][f"{measure} {row['label']}"] = row[measure]
            for case, value in zip(self.cases, self.values(measure), strict=True):
                rows[case][f"{measure} mean"] = float(value)
        return list(rows.values())

    def _table_rows(self) -> list[tuple]:
        return [
            (label, measure, e.cases, e.value, e.std, e.low, e.high, infinite)
            for label, measure, e, infinite in self.estimates()
        ]

    def _protocol_line(self) -> str:
        protocol = self.protocol
        absent = "1 (challenge convention)" if protocol.convention == "challenge" else "left out (nnU-Net convention)"
        means = ", ".join(f"{name} {self.mean(name):.4f}" for name in protocol.measures)
        order = "over cases, then structures" if protocol.average == "labels" else "over structures, then cases"
        return (
            f"{len(self.cases)} cases; mean {order}: {means}. "
            f"Structures absent from prediction and reference: {absent}. "
            "std over cases; 95 % bootstrap interval of the mean over cases; infinite distances are counted apart."
        )


def _nnunet(name: str) -> str:
    return NNUNET_NAMES.get(name, name)


def _finite_mean(values: Sequence[float]) -> float:
    """Mean of the finite values; NaN when there is none."""
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    return float(array.mean()) if len(array) else math.nan
