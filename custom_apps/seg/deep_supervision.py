"""Deep supervision: one loss for every decoder level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from custom_apps.common.distributed import world_size


def deep_supervision_weights(outputs: int) -> list[float]:
    """Weights ``2^-i`` of the outputs, highest resolution first, the coarsest 0, their sum 1.

    A single output has weight 1. Source: nnU-Net, Isensee et al. 2021.
    """
    weights = [2.0**-i for i in range(outputs)]
    if outputs > 1:
        weights[-1] = 0.0
    return [weight / sum(weights) for weight in weights]


class DeepSupervisionLoss(nn.Module):
    """Weighted sum of a loss over the outputs of a network that returns a list in training.

    Args:
        loss: callable ``loss(output, target) -> scalar``.
        weights: weight of each output; those of :func:`deep_supervision_weights` when None.
        target_interpolation: ``nearest-exact`` (the half-voxel convention of both generations of nnU-Net's loaders)
            or ``nearest`` (U-Mamba2's pseudo labels).

    An output of weight 0 is not computed. In a distributed run it is kept in the graph with factor 0, because
    DistributedDataParallel needs a gradient for each parameter; nnU-Net gives it weight 1e-6 instead.
    """

    def __init__(
        self, loss: nn.Module, weights: Sequence[float] | None = None, target_interpolation: str = "nearest-exact"
    ):
        super().__init__()
        if target_interpolation not in ("nearest", "nearest-exact"):
            raise ValueError(f"target_interpolation must be 'nearest' or 'nearest-exact', got {target_interpolation!r}")
        self.loss = loss
        self.weights = None if weights is None else [float(weight) for weight in weights]
        self.target_interpolation = target_interpolation

    def forward(
        self, outputs: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor | Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Computes the loss.

        Args:
            outputs: list of logits (B, K, *S_i), highest resolution first, or one tensor, whose loss is returned.
            target: label map (B, 1, *S_0), brought to the other resolutions here, or one target for each output.

        Raises:
            ValueError: when the number of weights or targets does not fit the number of outputs.
        """
        if isinstance(outputs, torch.Tensor):
            return self.loss(outputs, target if isinstance(target, torch.Tensor) else target[0])
        weights = self.weights or deep_supervision_weights(len(outputs))
        targets = [target] * len(outputs) if isinstance(target, torch.Tensor) else target
        if not len(outputs) == len(weights) == len(targets):
            raise ValueError(f"{len(outputs)} outputs, {len(weights)} weights and {len(targets)} targets do not match")
        total = outputs[0].new_zeros(())
        for output, weight, wanted in zip(outputs, weights, targets, strict=True):
            if weight:
                total = total + weight * self.loss(output, self._at(output, wanted))
            elif world_size() > 1:
                total = total + 0.0 * output.mean()
        return total

    def _at(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        size = output.shape[2:]
        if target.shape[2:] == size:
            return target
        # Interpolation knows no integer types; labels are exact in float32.
        return F.interpolate(target.float(), size=size, mode=self.target_interpolation).to(target.dtype)
