"""Loss and batches of autoencoders that restore disrupted images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

MEASURES = ("l1", "l2")


class RestorationLoss(nn.Module):
    """Mean absolute or squared difference from the clean image.

    Args:
        measure: ``l1`` (published) or ``l2``.
        mask_only: count hidden blocks only; 0 for a batch without any.

    Source: U-Mamba2, arXiv 2509.12069.
    """

    def __init__(self, measure: str = "l1", mask_only: bool = False):
        super().__init__()
        if measure not in MEASURES:
            raise ValueError(f"measure must be one of {', '.join(MEASURES)}, got {measure!r}")
        self.measure, self.mask_only = measure, mask_only

    def forward(self, restored: torch.Tensor, clean: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Computes the loss.

        Args:
            restored: output of the network, (B, C, *S).
            clean: ``target``, the clean image (B, C, *S), and ``hidden``, boolean (B, 1, *S).

        Raises:
            ValueError: when network and image have different numbers of channels.
        """
        target = clean["target"]
        if restored.shape != target.shape:
            raise ValueError(f"the network restores {tuple(restored.shape)}, the image is {tuple(target.shape)}")
        difference = restored - target
        difference = difference.abs() if self.measure == "l1" else difference.square()
        if not self.mask_only:
            return difference.mean()
        hidden = clean["hidden"].expand_as(difference)
        return (difference * hidden).sum() / hidden.sum().clamp_min(1)


def prepare_restoration_batch(
    batch: Mapping[str, Any], device: torch.device | str | None = None, non_blocking: bool = False, **to: Any
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """``prepare_batch`` of MONAI's engines: the disrupted image, and what the loss compares with."""
    moved = {
        key: batch[key].to(device=device, non_blocking=non_blocking, **to) for key in ("image", "target", "hidden")
    }
    return moved.pop("image"), moved
