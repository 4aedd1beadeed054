"""How segmentation gains from clicks: scores over the number of simulated clicks in each structure."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from custom_apps.common.checkpoint_files import load_weights, read_checkpoint
from custom_apps.common.distributed import is_main_process, without_ddp
from custom_apps.common.figures import PALETTE, figure
from custom_apps.common.gathering import gather_rows
from custom_apps.common.statistics import Estimate, bootstrap_mean
from custom_apps.common.table import text_table, write_csv
from custom_apps.seg.case_lists import CaseItem
from custom_apps.seg.click_cases import simulated_clicks
from custom_apps.seg.click_inferer import ClickInferer
from custom_apps.seg.clicks import clickable_labels
from custom_apps.seg.component_filter import LabelMapFilter
from custom_apps.seg.interactive_session import InteractiveSession
from custom_apps.seg.model_folder import ModelFolder
from custom_apps.seg.protocol import SegmentationProtocol
from custom_apps.seg.volume_io import read_segmentation

MEAN = "mean"
HEADERS = ("clicks", "label", "cases", "mean", "95 % low", "95 % high")


class ClickCurve:
    """Segments every case with several numbers of simulated clicks and scores each.

    Args:
        cases: labeled cases; of a distributed run the share of this process.
        model: plan and labels.
        network: the model's.
        protocol: its first measure is the one reported.
        output_dir: receives ``click_curve.csv``, ``click_curve_cases.csv`` and ``figures/click_curve.png``.
        weights: file to load into the network first; None leaves it as it is.
        counts: numbers of clicks in each structure.
        inferer: see :class:`~custom_apps.seg.interactive_session.InteractiveSession`, like ``device`` and ``cross``.
        device: where the network runs.
        cross: paint the crosses of clicks.
        component_filter: applied to every label map.
        seed: of the simulated clicks, with number and case; the clicks of different numbers are independent.
    """

    def __init__(
        self,
        cases: Sequence[CaseItem],
        model: ModelFolder,
        network: nn.Module,
        protocol: SegmentationProtocol,
        output_dir: str | Path,
        weights: str | Path | None = None,
        counts: Sequence[int] = (0, 1, 2, 3, 5, 10),
        inferer: ClickInferer | None = None,
        device: torch.device | str = "cpu",
        cross: bool = True,
        component_filter: LabelMapFilter | None = None,
        seed: int = 0,
    ):
        self.cases, self.model, self.network, self.protocol = list(cases), model, network, protocol
        self.output_dir, self.weights, self.counts = Path(output_dir), weights, sorted({int(n) for n in counts})
        self.options = {"inferer": inferer, "device": device, "cross": cross, "component_filter": component_filter}
        self.seed, self.measure = seed, protocol.measures[0]

    def run(self) -> list[dict[str, Any]]:
        """Scores all cases and writes the files.

        Returns:
            A row for each number of clicks, label and case: ``clicks``, ``case``, ``label`` and the measures.
        """
        network = without_ddp(self.network)
        if self.weights is not None:
            load_weights(network, read_checkpoint(self.weights), self.weights)
        rows = gather_rows([row for item in self.cases for row in self._rows(item, network)])
        if self.counts and is_main_process():
            estimates = self.estimates(rows)
            table = [(n, label, e.cases, e.value, e.low, e.high) for n, label, e in estimates]
            write_csv([dict(zip(HEADERS, row, strict=True)) for row in table], self.output_dir / "click_curve.csv")
            write_csv(rows, self.output_dir / "click_curve_cases.csv")
            plot_click_curve(estimates, self.measure, self.output_dir / "figures" / "click_curve.png")
            text = text_table([row for row in table if row[1] == MEAN], HEADERS)
            logging.getLogger(__name__).info("%s over clicks in each structure\n%s", self.measure, text)
        return rows

    def estimates(self, rows: Sequence[dict[str, Any]]) -> list[tuple[int, str, Estimate]]:
        """Number of clicks, label and mean over cases with interval; label ``mean`` is over structures in a case."""
        found = []
        for count in self.counts:
            own = [row for row in rows if row["clicks"] == count]
            for structure in self.protocol.structures:
                values = [row[self.measure] for row in own if row["label"] == structure.name]
                found.append((count, structure.name, _estimate(values)))
            cases = sorted({row["case"] for row in own})
            means = [_finite_mean([row[self.measure] for row in own if row["case"] == case]) for case in cases]
            found.append((count, MEAN, _estimate(means)))
        return found

    def _rows(self, item: CaseItem, network: nn.Module) -> list[dict[str, Any]]:
        session = InteractiveSession(self.model, item["image"], network, **self.options)
        reference, properties = read_segmentation(item["label"], self.model.reader)
        ids, rows = clickable_labels(self.model.labels).values(), []
        for count in self.counts:
            random = np.random.RandomState([self.seed, count, *item["case"].encode()])
            session.set_clicks(simulated_clicks(reference[0], ids, random, (count, count)))
            scores = self.protocol.score(session.predict(), reference[0], properties["spacing"], item["case"])
            rows += [{"clicks": count, **{key: row[key] for key in row if key != "ids"}} for row in scores]
        return rows


def plot_click_curve(estimates: Sequence[tuple[int, str, Estimate]], measure: str, path: str | Path) -> None:
    """Draws mean and interval over the number of clicks, a line for each structure and a strong one for their mean.

    Args:
        estimates: as :meth:`ClickCurve.estimates` gives them.
        measure: name on the axis.
        path: the figure.
    """
    labels = list(dict.fromkeys(label for _, label, _ in estimates))
    # The mean comes last; beside a single structure, or too many, it says all.
    shown = labels if 2 < len(labels) <= len(PALETTE) else [MEAN]
    counts = sorted({count for count, _, _ in estimates})
    with figure(path, width=4.6, height=3.2) as (_, grid):
        axes = grid[0, 0]
        for number, label in enumerate(shown):
            line, strong = [e for _, name, e in estimates if name == label], label == shown[-1]
            color, width = ("#222222", 2.0) if strong else (PALETTE[number], 1.1)
            values = [e.value for e in line]
            axes.plot(counts, values, marker="o", markersize=4, color=color, linewidth=width, label=label)
            if strong:
                axes.fill_between(counts, [e.low for e in line], [e.high for e in line], color=color, alpha=0.15, lw=0)
        axes.set(xlabel="simulated clicks in each structure", xticks=counts, ylim=(0, 1.02))
        axes.set_title(f"{measure.replace('dice', 'Dice')}, {line[0].cases} cases, 95 % interval of the mean")
        axes.legend(loc="lower right")


def _estimate(values: Sequence[float]) -> Estimate:
    return bootstrap_mean([value for value in values if not np.isinf(value)])


def _finite_mean(values: Sequence[float]) -> float:
    finite = np.asarray(values, float)[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
