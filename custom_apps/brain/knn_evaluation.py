"""Features of a frozen encoder: taken out, judged by nearest neighbors across folds, drawn and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.inferers import Inferer
from torch import nn

from custom_apps.brain.knn import NEIGHBORS, knn_scores, neighbor_votes
from custom_apps.common.case_metric import CaseMetric
from custom_apps.common.classification_metrics import classification_estimates
from custom_apps.common.distributed import is_main_process, without_ddp
from custom_apps.common.figures import PALETTE, figure
from custom_apps.common.gathering import each_once
from custom_apps.common.partial_file import partial_file, write_json, write_text
from custom_apps.common.statistics import RESAMPLES
from custom_apps.common.table import markdown_table, write_csv

MARKERS = ("o", "^")


class FeatureInferer(Inferer):
    """Pooled features (B, width) of a classifier in place of its logits; of all tokens their mean."""

    def __call__(self, inputs: torch.Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Features of a batch."""
        features = without_ddp(network).features(inputs)
        return features.mean(dim=1) if features.ndim == 3 else features


class NeighborTable:
    """Features of cases, and what the nearest neighbors outside of each case's own fold say about it.

    Args:
        rows: of each case ``case``, ``fold``, ``label`` (0 or 1) and ``features``. A case that comes twice counts once.
        neighbors: number of votes.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], neighbors: int = NEIGHBORS):
        self.rows, self.neighbors = each_once([dict(row) for row in rows]), neighbors
        self.features = np.stack([np.asarray(row["features"], np.float64) for row in self.rows])
        self.labels = np.array([row["label"] for row in self.rows], int)
        self.fold = np.array([row["fold"] for row in self.rows], int)
        self.predicted = np.zeros(len(self.rows), int)
        self.fraction = np.zeros(len(self.rows))
        self.scores: dict[str, dict[str, float]] = {}
        for number in np.unique(self.fold):
            own = self.fold == number
            votes = neighbor_votes(self.features[~own], self.labels[~own], self.features[own], neighbors)
            self.predicted[own], self.fraction[own] = votes.predicted, votes.fraction
            self.scores[f"fold {number}"] = knn_scores(votes, self.labels[own])
        each = list(self.scores.values())
        self.scores["mean over folds"] = {name: float(np.mean([fold[name] for fold in each])) for name in each[0]}

    def write(self, folder: str | Path, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> str:
        """Writes ``features.npz``, ``knn.csv``, ``knn.md``, ``knn.json`` and ``figures/features.png``.

        Args:
            folder: made when missing; files of these names are replaced.
            level: coverage of the intervals.
            resamples: bootstrap samples of cases.
            seed: of the picture's t-SNE.

        Returns:
            The results as text.
        """
        folder = Path(folder)
        cases = [row["case"] for row in self.rows]
        with partial_file(folder / "features.npz") as temporary:
            np.savez(temporary, features=self.features, labels=self.labels, folds=self.fold, cases=np.array(cases))
        predictions = zip(cases, self.fold, self.labels, self.fraction, self.predicted, strict=True)
        columns = ["case", "fold", "label", "fraction", "predicted"]
        write_csv([dict(zip(columns, row, strict=True)) for row in predictions], folder / "knn.csv", columns)
        estimates = classification_estimates(self.labels, self.fraction, 0.5 + 1e-9, level, resamples)
        shown = {name: estimates[name] for name in ("auroc", "accuracy", "f1")}
        rows = [[name, *scores.values()] for name, scores in self.scores.items()]
        pooled = ", ".join(f"{name} {estimate.text()}" for name, estimate in shown.items())
        text = (
            f"{self.neighbors} nearest neighbors among the cases of the other folds; all cases together, "
            f"AUROC by share of neighbors: {pooled}"
        )
        table = markdown_table(rows, ["cases of", *next(iter(self.scores.values()))])
        write_text(f"{text}.\n\n{table}\n\n`knn_auc` is that of the decisions, as published.\n", folder / "knn.md")
        plain = {name: {"value": e.value, "low": e.low, "high": e.high} for name, e in shown.items()}
        content = {"neighbors": self.neighbors, "cases": len(cases), "all cases": plain, "published": self.scores}
        write_json(content | {"level": level}, folder / "knn.json")
        draw_features(self.features, self.labels, self.predicted, folder / "figures" / "features.png", seed)
        return text


class NeighborScores(CaseMetric):
    """Metric of a MONAI evaluator whose predictions are features: accuracy of nearest neighbors in other folds.

    Takes from the batch ``case``, ``fold`` and ``label``, from the output ``pred``. Cases of all ranks are gathered.

    Args:
        output_dir: where rank 0 writes :meth:`NeighborTable.write`'s files after an epoch; None writes nothing.
        neighbors: number of votes.
        level: coverage of the intervals.
        resamples: bootstrap samples of cases.
    """

    def __init__(
        self,
        output_dir: str | Path | None = None,
        neighbors: int = NEIGHBORS,
        level: float = 0.95,
        resamples: int = RESAMPLES,
    ):
        self.output_dir, self.neighbors, self.level, self.resamples = output_dir, neighbors, level, resamples
        self.table: NeighborTable | None = None
        super().__init__()

    def row(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """What is kept of a case."""
        row = {"case": str(case["case"]), "fold": int(case["fold"]), "label": int(case["label"])}
        return row | {"features": case["pred"].detach().float().cpu().numpy()}

    def compute(self) -> float:
        """Share of the cases of all ranks that their neighbors decide rightly; the same on every rank."""
        self.table = NeighborTable(self.rows_of_all_ranks(), self.neighbors)
        return float((self.table.predicted == self.table.labels).mean())

    def completed(self, engine: Engine, name: str) -> None:
        """Puts the mean over folds into ``engine.state.metrics`` and writes the report."""
        super().completed(engine, name)
        engine.state.metrics |= self.table.scores["mean over folds"]
        if self.output_dir is not None and is_main_process():
            engine.logger.info("%s", self.table.write(self.output_dir, self.level, self.resamples))


def draw_features(
    features: np.ndarray, labels: np.ndarray, predicted: np.ndarray, path: str | Path, seed: int = 0
) -> None:
    """Draws features on a plane by t-SNE: color is the label, filled what the neighbors decide rightly.

    Args:
        features: (cases, width).
        labels: 0 or 1.
        predicted: 0 or 1.
        path: the figure.
        seed: of t-SNE.

    Distances between groups in such a picture mean little (van der Maaten and Hinton 2008).
    """
    from sklearn.manifold import TSNE

    perplexity = min(30.0, max(2.0, (len(features) - 1) / 3))
    places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features.astype(np.float32))
    with figure(path, width=4.2, height=3.8) as (_, grid):
        axes = grid[0, 0]
        for label in (0, 1):
            for right in (True, False):
                chosen = (labels == label) & ((predicted == labels) == right)
                colour = PALETTE[label]
                axes.scatter(
                    *places[chosen].T,
                    s=26,
                    marker=MARKERS[label],
                    facecolors=colour if right else "none",
                    edgecolors=colour,
                    label=f"class {label}, {'decided rightly' if right else 'decided wrongly'} ({chosen.sum()})",
                )
        axes.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2", title="Features of the frozen encoder")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2)
