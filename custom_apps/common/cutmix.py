"""Mixup and CutMix of a batch of labeled images, with soft targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F


class BlendImages:
    """Blends each image of a batch with the one at the other end of the batch, by mixup or by pasting a box.

    To be given to :func:`custom_apps.common.item_loader.item_loader` as ``finish``. One share is drawn for the whole
    batch. Labels become soft targets in any case, so that one loss serves all batches.

    Args:
        num_classes: of the soft targets.
        mixup: alpha of the Beta distribution of the share; 0 for no mixup.
        cutmix: alpha of the Beta distribution of the box's complement; 0 for no CutMix.
        cutmix_minmax: range of the sides of the box as shares of the image, instead of ``cutmix``'s distribution.
        prob: probability of blending a batch at all.
        switch_prob: probability of CutMix where both are on.
        smoothing: label smoothing.

    Source: Zhang et al. 2018, arXiv 1710.09412; Yun et al. 2019, arXiv 1905.04899; options as of masked autoencoders,
    He et al. 2022.
    """

    def __init__(
        self,
        num_classes: int = 2,
        mixup: float = 0.8,
        cutmix: float = 1.0,
        cutmix_minmax: Sequence[float] | None = None,
        prob: float = 1.0,
        switch_prob: float = 0.5,
        smoothing: float = 0.0,
    ):
        if min(mixup, cutmix) < 0:
            raise ValueError(f"mixup and cutmix must not be negative, got {mixup} and {cutmix}")
        self.num_classes, self.mixup, self.cutmix = num_classes, mixup, cutmix
        self.cutmix_minmax = None if cutmix_minmax is None else tuple(cutmix_minmax)
        self.prob, self.switch_prob, self.smoothing = prob, switch_prob, smoothing

    def __call__(self, batch: dict[str, Any], random: np.random.RandomState) -> dict[str, Any]:
        """Blends ``image`` (B, C, H, W) and makes of ``label``, int64 (B,), float32 (B, classes).

        Args:
            batch: a collated batch; other keys stay.
            random: source of the draws.
        """
        image, share = batch["image"], 1.0
        pastes = self.cutmix > 0 or self.cutmix_minmax is not None
        if (pastes or self.mixup > 0) and random.uniform() < self.prob:
            if pastes and (self.mixup == 0 or random.uniform() < self.switch_prob):
                top, left, height, width = self.box(random, *image.shape[-2:])
                image = image.clone()
                box = np.s_[..., top : top + height, left : left + width]
                image[box] = batch["image"].flip(0)[box]
                share = 1 - height * width / math.prod(image.shape[-2:])
            else:
                share = float(random.beta(self.mixup, self.mixup))
                image = share * image + (1 - share) * image.flip(0)
        target = self.soft(batch["label"])
        return batch | {"image": image, "label": share * target + (1 - share) * target.flip(0)}

    def box(self, random: np.random.RandomState, height: int, width: int) -> tuple[int, int, int, int]:
        """Draws top, left, height and width of the box; it may reach beyond the image, where it is cut off."""
        if self.cutmix_minmax is not None:
            low, high = self.cutmix_minmax
            sides = [
                random.randint(int(side * low), max(int(side * high), int(side * low) + 1)) for side in (height, width)
            ]
            top, left = (random.randint(whole - side + 1) for whole, side in zip((height, width), sides, strict=True))
            return top, left, *sides
        side = math.sqrt(1 - random.beta(self.cutmix, self.cutmix))
        edges = []
        for whole in (height, width):
            middle, half = random.randint(whole), int(whole * side) // 2
            edges.append((max(0, middle - half), min(whole, middle + half)))
        (top, bottom), (left, right) = edges
        return top, left, bottom - top, right - left

    def soft(self, label: torch.Tensor) -> torch.Tensor:
        """Targets (B, classes) with label smoothing."""
        hard = F.one_hot(label.long(), self.num_classes).float()
        return hard * (1 - self.smoothing) + self.smoothing / self.num_classes
