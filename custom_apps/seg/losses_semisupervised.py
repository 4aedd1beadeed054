"""Losses on unlabelled images: consistency of two views, and confident pseudo labels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


class ConsistencyLoss(nn.Module):
    """Mean squared difference between the softmaxes of two sets of logits, the second without gradient.

    Source: U-Mamba2-SSL, arXiv 2509.20154.
    """

    def forward(self, logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
        """Computes the loss of logits (B, K, *S) against the logits of the weak view, of the same shape."""
        return F.mse_loss(logits.softmax(dim=1), teacher_logits.detach().softmax(dim=1))


def consistency_weight(iteration: int, rampup_iterations: int, maximum: float = 50.0) -> float:
    """Weight of the consistency loss: ``maximum · exp(-5 (1 - min(t, T) / T)²)``.

    Args:
        iteration: t, iterations since the beginning of training.
        rampup_iterations: T; 20 % of all iterations in the first stage of U-Mamba2-SSL, 5 % in the second.
        maximum: weight after the ramp.
    """
    progress = min(iteration, rampup_iterations) / rampup_iterations if rampup_iterations > 0 else 1.0
    return maximum * math.exp(-5.0 * (1.0 - progress) ** 2)


@torch.no_grad()
def pseudo_labels(logits: torch.Tensor, threshold: float = 0.75) -> torch.Tensor:
    """Most probable class where its probability reaches ``threshold``, elsewhere 0.

    Train on the result with ``DiceCrossEntropyLoss(ignore_label=0, smooth=0)`` inside
    ``DeepSupervisionLoss(target_interpolation="nearest")``, weighted by 0.1: label 0 is ignored, so that background is
    never learnt from pseudo labels. Source: U-Mamba2-SSL, arXiv 2509.20154.

    Args:
        logits: (B, K, *S).

    Returns:
        int64 label map (B, 1, *S).
    """
    probability, label = logits.softmax(dim=1).max(dim=1, keepdim=True)
    return torch.where(probability >= threshold, label, 0)
