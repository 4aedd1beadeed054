"""What the engines need for masked autoencoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from custom_networks.layers.masked_prediction import MaskedPrediction, masked_patch_loss


class MaskedPatchLoss(nn.Module):
    """Loss of any network that returns a ``MaskedPrediction``, which brings its own targets.

    Give engines ``keep_predictions: false`` with it, the trainer a
    :class:`~custom_apps.common.seeding.SeededIterations`, and the evaluator ``seed_key: index``, so that masks repeat.
    """

    def forward(self, output: MaskedPrediction, _targets: Any = None) -> torch.Tensor:
        """Mean squared error over hidden patches."""
        return masked_patch_loss(output)


class PrepareMaskedBatch:
    """``prepare_batch`` of MONAI's engines for masked autoencoders, which are told what to predict.

    Args:
        image: key of the network's input.
        target: key of the image to predict instead of the input, for batches that have one, such as the image before
            noise was added or before it was blurred.
        argument: the network's name for it.
    """

    def __init__(self, image: str = "image", target: str = "target", argument: str = "target_image"):
        self.image, self.target, self.argument = image, target, argument

    def __call__(
        self,
        batch: Mapping[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **to: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, tuple, dict[str, torch.Tensor]]:
        """Input, the input again as what the engine takes for the reference, and the network's further arguments."""
        moved = {
            key: batch[key].to(device=device, non_blocking=non_blocking, **to)
            for key in (self.image, self.target)
            if key in batch
        }
        further = {self.argument: moved[self.target]} if self.target in moved else {}
        return moved[self.image], moved.get(self.target, moved[self.image]), (), further
