"""Segmentation losses of nnU-Net: cross-entropy plus soft Dice, for labels and for regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from custom_apps.seg.deep_supervision import DeepSupervisionLoss
from custom_apps.seg.label_options import ClassWeights, RelatedLabels, class_weights_of, related_labels_of
from custom_apps.seg.losses_soft_targets import SoftTargetDiceCrossEntropyLoss
from custom_apps.seg.soft_dice import SoftDice, one_hot

if TYPE_CHECKING:
    from custom_apps.seg.prepared import PreparedDataset


class DiceCrossEntropyLoss(nn.Module):
    """Mean softmax cross-entropy plus soft Dice without background (class 0).

    Args:
        batch_dice: see :class:`SoftDice`; the plan decides.
        smooth: ε of the Dice.
        ignore_label: voxels with this label do not count, neither in the Dice nor in the cross-entropy, which is 0
            where no voxel is left.
        class_weights: weight of each class in the cross-entropy (weighted mean), all equal when None.
        dice_weight, cross_entropy_weight: factors of the two terms.

    Source: nnU-Net, Isensee et al. 2021; U-Mamba uses it unchanged.
    """

    def __init__(
        self,
        batch_dice: bool = False,
        smooth: float = 1e-5,
        ignore_label: int | None = None,
        class_weights: Sequence[float] | None = None,
        dice_weight: float = 1.0,
        cross_entropy_weight: float = 1.0,
    ):
        super().__init__()
        self.dice = SoftDice(batch_dice, smooth)
        self.ignore_label = ignore_label
        self.dice_weight, self.cross_entropy_weight = dice_weight, cross_entropy_weight
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Computes the loss.

        Args:
            logits: (B, K, *S), K classes including background.
            target: integer label map (B, 1, *S).
        """
        target = target.long()
        counts = None if self.ignore_label is None else target != self.ignore_label
        probabilities = logits.softmax(dim=1)
        # The ignored label may lie beyond the classes or be one of them: the mask removes it either way.
        dice = self.dice(probabilities[:, 1:], one_hot(target, range(1, logits.shape[1])), counts)
        return self.cross_entropy_weight * self._cross_entropy(logits, target, counts) + self.dice_weight * dice

    def _cross_entropy(self, logits: torch.Tensor, target: torch.Tensor, counts: torch.Tensor | None) -> torch.Tensor:
        weights = None if self.class_weights is None else self.class_weights.to(logits)
        if counts is None:
            return F.cross_entropy(logits, target[:, 0], weights)
        total = F.cross_entropy(logits, target[:, 0], weights, ignore_index=self.ignore_label, reduction="sum")
        if weights is None:
            share = counts.sum()
        else:
            share = weights[torch.where(counts, target, 0)].mul(counts).sum()
        return total / share.clamp_min(torch.finfo(total.dtype).tiny)


class RegionDiceCrossEntropyLoss(nn.Module):
    """Binary cross-entropy plus soft Dice for regions, which may overlap and have no background channel.

    Args:
        regions: for each output channel the labels that form the region, e.g. ``[[1, 2, 3], [2, 3], 3]``.
        batch_dice: see :class:`SoftDice`.
        smooth: ε of the Dice.
        ignore_label: voxels with this label do not count.

    Source: nnU-Net's region-based training, Isensee et al. 2021. The label map is turned into regions here, not in the
    data loader, so that one batch serves every loss. With an ignore label the binary cross-entropy is the mean over
    valid voxels and channels, as it is without one.
    """

    def __init__(
        self,
        regions: Sequence[int | Sequence[int]],
        batch_dice: bool = False,
        smooth: float = 1e-5,
        ignore_label: int | None = None,
    ):
        super().__init__()
        self.regions = [region if isinstance(region, int) else [int(label) for label in region] for region in regions]
        self.dice = SoftDice(batch_dice, smooth)
        self.ignore_label = ignore_label

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Computes the loss.

        Args:
            logits: (B, number of regions, *S).
            target: integer label map (B, 1, *S).
        """
        target = target.long()
        members = one_hot(target, self.regions)
        counts = None if self.ignore_label is None else target != self.ignore_label
        dice = self.dice(logits.sigmoid(), members, counts)
        if counts is None:
            return F.binary_cross_entropy_with_logits(logits, members.to(logits.dtype)) + dice
        entropy = F.binary_cross_entropy_with_logits(
            logits, members.to(logits.dtype), counts.to(logits.dtype).expand_as(logits), reduction="sum"
        )
        return entropy / (counts.sum() * logits.shape[1]).clamp_min(1) + dice


def loss_for(
    prepared: PreparedDataset,
    smooth: float = 1e-5,
    deep_supervision: bool = True,
    batch_dice: bool | None = None,
    class_weights: ClassWeights | None = None,
    related_labels: RelatedLabels | None = None,
    related_share: float = 0.1,
) -> nn.Module:
    """The published loss for the labels and the plan of a prepared data set.

    Args:
        prepared: a ``PreparedDataset``; its labels decide between classes and regions.
        smooth: ε of the Dice: 1e-5 in U-Mamba, 0 in U-Mamba2.
        deep_supervision: wrap it for networks that return a list; a single output is accepted all the same.
        batch_dice: overrides the plan.
        class_weights: in the cross-entropy; see :func:`custom_apps.seg.label_options.class_weights_of`.
        related_labels: labels that share the probability of each other in soft targets; see
            :func:`custom_apps.seg.label_options.related_labels_of`.
        related_share: probability that a label gives to its related ones.

    Raises:
        ValueError: for weights or relations that do not fit the labels, or with regions or, for relations, an ignore
            label.
    """
    labels = prepared.labels
    if labels.has_regions and (class_weights or related_labels):
        raise ValueError("class_weights and related_labels are of labels, expected a data set without regions")
    weights = class_weights_of(labels, class_weights)
    related = related_labels_of(labels, related_labels)
    batch_dice = prepared.configuration.batch_dice if batch_dice is None else batch_dice
    if labels.has_regions:
        loss: nn.Module = RegionDiceCrossEntropyLoss(labels.foreground_regions, batch_dice, smooth, labels.ignore_label)
    elif related:
        if labels.ignore_label is not None:
            raise ValueError("related_labels need soft targets, expected a data set without an ignore label")
        classes = labels.num_segmentation_heads
        loss = SoftTargetDiceCrossEntropyLoss(classes, related, related_share, weights, batch_dice, smooth)
    else:
        loss = DiceCrossEntropyLoss(batch_dice, smooth, labels.ignore_label, weights)
    return DeepSupervisionLoss(loss) if deep_supervision else loss
