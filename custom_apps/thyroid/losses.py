"""Losses of nodule segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import nn

from custom_apps.thyroid.segmentation_metrics import IGNORED

AVERAGES = ("all", "counted")


def fitted(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Logits (B, C, h, w) resized bilinearly to the height and width of a label (B, H, W)."""
    if logits.shape[2:] == label.shape[1:]:
        return logits
    return F.interpolate(logits, tuple(label.shape[1:]), mode="bilinear", align_corners=False)


class PixelCrossEntropy(nn.Module):
    """Cross-entropy of classes of pixels, of the main head and of an auxiliary one.

    Args:
        auxiliary_weight: factor of the auxiliary head.
        average: ``all`` divides by the number of pixels, ignored ones included, so that padding dilutes the loss, as
            published; ``counted`` divides by those that count.
        ignore_index: value of pixels in the label that count nowhere.

    Raises:
        ValueError: for an unknown ``average``.

    Source: UPerNet of Deblurring MAE, Kang et al. 2023, trained with mmsegmentation.
    """

    def __init__(self, auxiliary_weight: float = 0.4, average: str = "all", ignore_index: int = IGNORED):
        super().__init__()
        if average not in AVERAGES:
            raise ValueError(f"average must be one of {', '.join(AVERAGES)}, got {average!r}")
        self.auxiliary_weight, self.average, self.ignore_index = auxiliary_weight, average, ignore_index

    def forward(self, logits: torch.Tensor | Sequence[torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        """Loss of logits (B, classes, h, w), or of a list with those of the auxiliary head; labels (B, H, W) int64."""
        main, *auxiliary = [logits] if isinstance(logits, torch.Tensor) else logits
        loss = self._single(main, label)
        for each in auxiliary:
            loss = loss + self.auxiliary_weight * self._single(each, label)
        return loss

    def _single(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        total = F.cross_entropy(fitted(logits, label), label, ignore_index=self.ignore_index, reduction="sum")
        counted = label.numel() if self.average == "all" else (label != self.ignore_index).sum().clamp(min=1)
        return total / counted


class BatchDice(nn.Module):
    """One minus the soft Dice of the nodule over all pixels of a batch together, smoothed by one pixel.

    Args:
        ignore_index: value of pixels in the label that count nowhere.

    Source: U-Net and U-Net++ of Deblurring MAE, Kang et al. 2023.
    """

    def __init__(self, ignore_index: int = IGNORED):
        super().__init__()
        self.ignore_index = ignore_index
        self.dice = DiceLoss(batch=True, smooth_nr=1.0, smooth_dr=1.0)

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Loss of logits (B, 1, h, w); labels (B, H, W) int64."""
        counted = (label != self.ignore_index)[:, None].to(logits.dtype)
        truth = (label == 1)[:, None].to(logits.dtype)
        return self.dice(fitted(logits, label).sigmoid() * counted, truth)
