"""Soft Dice of nnU-Net, and the one-hot targets it needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from custom_apps.common.distributed import sum_with_gradient


def one_hot(target: torch.Tensor, labels: Sequence[int | Sequence[int]]) -> torch.Tensor:
    """Boolean membership of every voxel in each label or region.

    Args:
        target: integer label map (B, 1, *S).
        labels: for each output channel a label, or a list of labels that together form a region.

    Returns:
        boolean tensor (B, len(labels), *S).
    """
    shape = (1, -1) + (1,) * (target.ndim - 2)
    if all(isinstance(label, int) for label in labels):
        return target == torch.tensor(list(labels), device=target.device).view(shape)
    members = [torch.tensor([region] if isinstance(region, int) else list(region)) for region in labels]
    return torch.cat([torch.isin(target, region.to(target.device)) for region in members], dim=1)


class SoftDice(nn.Module):
    """Negative mean soft Dice over classes: ``-(2 Σ p g + smooth) / max(Σ p + Σ g + smooth, 1e-8)``.

    MONAI's ``DiceLoss`` has the same shape but divides 0 by 0 where a class is in neither image with ``smooth`` 0, does
    not sum over processes, and counts from 1 downwards; hence this class.

    Args:
        batch_dice: True sums over the batch, in a distributed run over all processes, and takes one Dice per class;
            False takes one Dice per sample and class.
        smooth: ε of the formula: 1e-5 in nnU-Net and U-Mamba, 0 in U-Mamba2.

    Source: nnU-Net, Isensee et al. 2021 (memory-efficient form).
    """

    def __init__(self, batch_dice: bool = False, smooth: float = 1e-5):
        super().__init__()
        self.batch_dice, self.smooth = batch_dice, smooth

    def forward(
        self, probabilities: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Computes the loss.

        Args:
            probabilities: (B, K, *S), the classes that count (without background where it does not).
            target: (B, K, *S), boolean or soft membership.
            mask: (B, 1, *S), True where a voxel counts; all do when None.

        Returns:
            scalar in [-1, 0].

        In a distributed run with ``batch_dice`` and gradients every process must call this equally often.
        """
        if mask is not None:
            probabilities, target = probabilities * mask, target * mask
        axes = list(range(2, probabilities.ndim))
        both = (probabilities * target).sum(axes)
        total = probabilities.sum(axes) + target.sum(axes)
        if self.batch_dice:
            both, total = both.sum(0), total.sum(0)
            if both.requires_grad:
                both, total = sum_with_gradient(torch.stack([both, total])).unbind()
        return -((2 * both + self.smooth) / (total + self.smooth).clamp_min(1e-8)).mean()
