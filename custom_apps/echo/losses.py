"""Losses of E-ViM3: ejection fraction, left ventricle at end-diastole and end-systole, breast lesion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from monai.losses import DiceLoss
from torch import nn
from torch.nn import functional as F

REGRESSIONS = ("mse", "l1", "smooth_l1")


class EjectionFractionLoss(nn.Module):
    """Regression loss in percent of ejection fraction, blind to small errors if wanted.

    Args:
        kind: ``mse``, ``l1`` or ``smooth_l1``.
        beta: error, percent, up to which ``smooth_l1`` is quadratic.
        tolerance: errors up to this many percent count as none; larger ones keep their full size.

    Source: E-ViM3, arXiv 2503.20258.
    """

    def __init__(self, kind: str = "mse", beta: float = 4.0, tolerance: float = 0.0):
        super().__init__()
        if kind not in REGRESSIONS:
            raise ValueError(f"kind must be one of {', '.join(REGRESSIONS)}, got {kind!r}")
        self.kind, self.beta, self.tolerance = kind, beta, tolerance

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean loss of predictions (B, n) for labels (B, 1), which every column is compared with."""
        error = prediction - target
        error = torch.where(error.abs() <= self.tolerance, torch.zeros_like(error), error)
        if self.kind == "mse":
            return error.square().mean()
        if self.kind == "l1":
            return error.abs().mean()
        return F.smooth_l1_loss(error, torch.zeros_like(error), beta=self.beta)


def annotated_frames(logits: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
    """Logits (B, K, L, H, W) at one frame of each clip, frame (B,) → (B, K, H, W)."""
    return logits[torch.arange(len(logits), device=logits.device), :, frame.long()]


class AnnotatedFramesLoss(nn.Module):
    """Cross-entropy minus soft Dice of the ventricle, added up over the annotated frames of each clip.

    Dice is taken of each sample, background left out, so that a perfect segmentation has loss -1 a frame.

    Source: E-ViM3, arXiv 2503.20258, with the loss of nnU-Net version 1.
    """

    def __init__(self):
        super().__init__()
        self.dice = DiceLoss(
            include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1e-5, smooth_dr=1.001e-5
        )

    def of_frame(self, logits: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and mean soft Dice of logits (B, 2, H, W) for labels (B, H, W)."""
        soft_dice = 1 - self.dice(logits, label[:, None])
        return F.cross_entropy(logits, label.long()) - soft_dice, soft_dice

    def forward(self, logits: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Sum over the frames.

        Args:
            logits: (B, 2, L, H, W).
            targets: ``label`` (B, frames, H, W) and ``label_frame`` (B, frames), positions in the clip.
        """
        label, frames = targets["label"], targets["label_frame"]
        losses = [self.of_frame(annotated_frames(logits, frames[:, i]), label[:, i])[0] for i in range(frames.shape[1])]
        return torch.stack(losses).sum()


class LesionLoss(nn.Module):
    """Binary cross-entropy of the video logit, plus that of every frame's logit when it has a weight.

    Args:
        positive_weight: weight of malignant videos; 58 benign and 88 malignant ones are in the training list of
            MICCAI-BUV. None for equal weights.
        frame_weight: weight of the frame logits.

    Source: E-ViM3, arXiv 2503.20258.
    """

    def __init__(self, positive_weight: float | None = 58 / 88, frame_weight: float = 0.0):
        super().__init__()
        self.positive_weight, self.frame_weight = positive_weight, frame_weight

    def forward(self, predictions: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """Loss of the video logit (B, 1), alone or followed by frame logits (B, L, 1), for labels (B, 1)."""
        video, frames = (predictions, None) if isinstance(predictions, torch.Tensor) else predictions[:2]
        loss = self._cross_entropy(video, target.reshape(video.shape))
        if self.frame_weight:
            target = target.reshape(-1, *(1 for _ in frames.shape[1:]))
            loss = loss + self.frame_weight * self._cross_entropy(frames, target.expand_as(frames))
        return loss

    def _cross_entropy(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        weight = None if self.positive_weight is None else logits.new_tensor(self.positive_weight)
        return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), pos_weight=weight)
