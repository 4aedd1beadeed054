"""Nearest neighbors among the features of a frozen encoder: how much it knows without being fine-tuned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from custom_apps.common.classification_metrics import Counts, auroc

NEIGHBORS = 5


@dataclass(frozen=True)
class NeighborVotes:
    """What the neighbors of each case say.

    Attributes:
        predicted: class of the majority, the lower one of equals, (cases,).
        fraction: share of neighbors of class 1, (cases,).
    """

    predicted: np.ndarray
    fraction: np.ndarray


def neighbor_votes(
    features: np.ndarray, labels: Sequence[int], new_features: np.ndarray, neighbors: int = NEIGHBORS
) -> NeighborVotes:
    """Votes of the nearest known cases by Euclidean distance; features are taken as they are.

    Args:
        features: of the known cases, (cases, width).
        labels: of these, 0 or 1.
        new_features: of the cases to classify, (new cases, width).
        neighbors: number of votes.

    Raises:
        ValueError: for fewer known cases than votes, or labels other than 0 and 1.

    Source: the frozen-feature evaluation of Hu et al. 2024, arXiv:2409.07746. There the loader of the known cases drops
    the last incomplete batch; here all vote.
    """
    from sklearn.neighbors import NearestNeighbors

    labels = np.asarray(labels).astype(int)
    if len(labels) < neighbors:
        raise ValueError(f"{neighbors} neighbors among {len(labels)} cases")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels must be 0 or 1, got {np.unique(labels)[:5].tolist()}")
    known = NearestNeighbors(n_neighbors=neighbors, algorithm="brute").fit(np.asarray(features, np.float64))
    votes = labels[known.kneighbors(np.asarray(new_features, np.float64), return_distance=False)].sum(1)
    return NeighborVotes((2 * votes > neighbors).astype(int), votes / neighbors)


def knn_scores(votes: NeighborVotes, labels: Sequence[int]) -> dict[str, float]:
    """Scores of votes: ``knn_acc``, ``knn_auc`` and ``knn_f1`` as published, and ``knn_auc_fraction``.

    The published ``knn_auc`` is that of the decisions, hence the mean of sensitivity and specificity;
    ``knn_auc_fraction`` ranks the cases by their share of neighbors.
    """
    labels = np.asarray(labels).astype(int)
    counts = Counts.of(labels, votes.predicted)
    return {
        "knn_acc": float(counts.accuracy),
        "knn_auc": float(auroc(labels, votes.predicted)),
        "knn_f1": float(counts.f1),
        "knn_auc_fraction": float(auroc(labels, votes.fraction)),
    }
