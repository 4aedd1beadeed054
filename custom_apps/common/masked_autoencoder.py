"""What the engines need for masked autoencoders."""

from __future__ import annotations

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
