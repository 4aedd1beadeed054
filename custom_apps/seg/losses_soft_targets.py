"""Label smoothing between related classes, and the loss on such soft targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from custom_apps.seg.soft_dice import SoftDice


def soft_target_matrix(
    num_classes: int, related: Mapping[int, Sequence[int]], related_share: float = 0.1
) -> torch.Tensor:
    """Rows of soft targets: label k keeps ``1 - related_share``, its related classes share the rest equally.

    Args:
        num_classes: number of classes including background.
        related: for each class with relatives their list; all others stay one-hot.
        related_share: probability given away.

    Returns:
        float32 matrix (num_classes, num_classes), each row of sum 1.

    Raises:
        ValueError: for a class that does not exist or is related to itself.
    """
    matrix = torch.eye(num_classes)
    for label, relatives in related.items():
        wrong = [k for k in [label, *relatives] if not 0 <= k < num_classes]
        if wrong or label in relatives:
            raise ValueError(f"class {label}: related classes {list(relatives)} do not fit {num_classes} classes")
        if relatives:
            matrix[label, label] = 1 - related_share
            matrix[label, list(relatives)] = related_share / len(relatives)
    return matrix


def toothfairy3_relations() -> dict[int, list[int]]:
    """Classes that U-Mamba2 treats as related in ToothFairy3, Task 1 (47 classes).

    Canals of the same side, the two sinuses, and for a tooth its neighbours in the jaw and the pulp (46). Quadrants are
    11-18, 19-26, 27-34 and 35-42, counted from the midline, where the first teeth of two quadrants meet.
    Source: U-Mamba2, arXiv 2509.12069.
    """
    pulp = 46
    related = {3: [43], 4: [44], 43: [3], 44: [4], 5: [6], 6: [5]}
    across_midline = {11: 19, 19: 11, 27: 35, 35: 27}
    for first in across_midline:
        for tooth in range(first, first + 8):
            before = across_midline[first] if tooth == first else tooth - 1
            after = [tooth + 1] if tooth < first + 7 else []
            related[tooth] = [before, *after, pulp]
    return related


def toothfairy3_class_weights() -> list[float]:
    """Weights of the cross-entropy in ToothFairy3, Task 1: 10 for the incisive and lingual canals (43-45), else 1."""
    return [10.0 if label in (43, 44, 45) else 1.0 for label in range(47)]


class SoftTargetDiceCrossEntropyLoss(nn.Module):
    """Cross-entropy plus soft Dice against soft targets looked up by label.

    Args:
        num_classes: number of classes including background.
        related: see :func:`soft_target_matrix`; ``"toothfairy3"`` takes the published relations.
        related_share: probability given to the related classes.
        class_weights: weights of the classes in the cross-entropy; the sum of the weighted terms is divided by the
            number of voxels. ``"toothfairy3"`` takes the published weights.
        batch_dice, smooth: see :class:`SoftDice`.

    The Dice is taken against the soft targets as well, so that its optimum is not at the one-hot labels: published
    behaviour, kept. Source: U-Mamba2, arXiv 2509.12069.
    """

    def __init__(
        self,
        num_classes: int,
        related: Mapping[int, Sequence[int]] | str,
        related_share: float = 0.1,
        class_weights: Sequence[float] | str | None = None,
        batch_dice: bool = True,
        smooth: float = 0.0,
    ):
        super().__init__()
        related = toothfairy3_relations() if related == "toothfairy3" else related
        class_weights = toothfairy3_class_weights() if class_weights == "toothfairy3" else class_weights
        if isinstance(related, str) or isinstance(class_weights, str):
            raise ValueError("the only named relations and class weights are 'toothfairy3'")
        if class_weights is not None and len(class_weights) != num_classes:
            raise ValueError(f"{len(class_weights)} class weights for {num_classes} classes")
        self.dice = SoftDice(batch_dice, smooth)
        matrix = soft_target_matrix(num_classes, {int(k): list(v) for k, v in related.items()}, related_share)
        self.register_buffer("matrix", matrix, persistent=False)
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Computes the loss.

        Args:
            logits: (B, K, *S).
            target: integer label map (B, 1, *S).
        """
        soft = self.matrix.to(logits.device)[target[:, 0].long()].movedim(-1, 1)
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        dice = self.dice(logits.softmax(dim=1)[:, 1:], soft[:, 1:])
        return F.cross_entropy(logits, soft.to(logits.dtype), weights) + dice
