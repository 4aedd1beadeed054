"""Scores as 3D Mamba MAE reports them: of each fold, their mean over folds, and those of all folds together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from custom_apps.common.classification_metrics import Counts, auroc

NAMES = ("acc1", "roc_auc_score", "f1_score", "sensitivity", "specificity", "loss")


def published_scores(
    labels: Sequence[int], logits: torch.Tensor | np.ndarray, batch_size: int | None = None
) -> dict[str, float]:
    """The published measures of one set of cases, without intervals.

    Args:
        labels: 0 or 1, (cases,).
        logits: of both classes, (cases, 2).
        batch_size: ``loss`` is the mean over batches of so many cases, whatever the size of the last one; None for the
            mean over cases.

    Returns:
        ``acc1`` in percent; ``roc_auc_score``, ``f1_score``, ``sensitivity`` and ``specificity`` of class 1 in 0..1,
        NaN where a class is missing; ``loss``, the plain cross-entropy.

    Source: the evaluation of Hu et al. 2024, arXiv:2409.07746. A case whose logits are equal counts as class 0.
    """
    truth = np.asarray(labels).astype(int)
    values = torch.as_tensor(logits).double()
    counts = Counts.of(truth, values.argmax(1).numpy())
    losses = torch.nn.functional.cross_entropy(values, torch.from_numpy(truth), reduction="none")
    batches = losses.split(batch_size or max(len(losses), 1))
    return {
        "acc1": 100 * float(counts.accuracy),
        "roc_auc_score": float(auroc(truth, values.softmax(1)[:, 1].numpy())),
        "f1_score": float(counts.f1),
        "sensitivity": float(counts.sensitivity),
        "specificity": float(counts.specificity),
        "loss": float(torch.stack([batch.mean() for batch in batches]).mean()) if len(losses) else float("nan"),
    }


def mean_over_folds(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of each measure over folds; NaN where it is undefined in one of them."""
    return {name: float(np.mean([fold[name] for fold in scores])) for name in NAMES}
