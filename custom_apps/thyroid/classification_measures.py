"""Measures of two-class predictions that published results of Deblurring MAE were computed with.

All take labels (cases,) and logits (cases, 2).
"""

from __future__ import annotations

import numpy as np

from custom_apps.common.classification_metrics import auroc


def top1_accuracy(labels: np.ndarray, logits: np.ndarray) -> float:
    """Share of cases whose larger logit is that of their class; what the published best model is chosen by."""
    return float((np.argmax(logits, axis=1) == np.asarray(labels, int)).mean())


def micro_f1(labels: np.ndarray, logits: np.ndarray) -> float:
    """F1 of both classes' counts together, which is the accuracy under another name."""
    return top1_accuracy(labels, logits)


def weighted_f1(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean of the F1 of both classes, each with the share of its cases."""
    from sklearn.metrics import f1_score

    return float(f1_score(np.asarray(labels, int), np.argmax(logits, axis=1), average="weighted", zero_division=0))


def sigmoid_auroc(labels: np.ndarray, logits: np.ndarray) -> float:
    """Area under the curve of the sigmoid of the second logit alone.

    Its order of cases can differ from that of the soft-max probability, which takes both logits.
    """
    return auroc(np.asarray(labels, int), 1 / (1 + np.exp(-np.asarray(logits, np.float64)[:, 1])))
