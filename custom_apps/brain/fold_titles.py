"""How the measures of a cross-validation are called and explained."""

from __future__ import annotations

SHOWN = {
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "f1": "F1",
}
PUBLISHED_TITLES = {
    "acc1": "accuracy, %",
    "roc_auc_score": "AUROC",
    "f1_score": "F1",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "loss": "cross-entropy",
}
POOLED_NOTE = (
    "All cases together: each case is predicted once, by the model of the fold that did not see it, and the cases are "
    "resampled. Probabilities of different models are ranked together. The mean over folds has no interval, because "
    "folds share training cases; its ± is the standard deviation over folds."
)
