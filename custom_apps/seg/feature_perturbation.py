"""Perturbation of encoder features for consistency training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def attention_map(features: torch.Tensor) -> torch.Tensor:
    """Mean over channels: (B, C, *S) to (B, 1, *S)."""
    return features.mean(dim=1, keepdim=True)


def perturb_features(
    features: torch.Tensor,
    channel_keep: torch.Tensor,
    threshold_factor: float,
    noise: torch.Tensor,
    dropout: float = 0.5,
) -> torch.Tensor:
    """Drops channels, silences the most attended positions, and multiplies by noise, with given draws.

    Args:
        features: (B, C, *S).
        channel_keep: 1 for channels that stay, 0 for others; (B, C, 1, …). The kept are divided by ``1 - dropout``.
        threshold_factor: positions whose attention reaches this share of the largest attention of the sample are set
            to 0. The attention is that of the features before channels are dropped.
        noise: (C, *S), shared by the batch; the result is multiplied by ``1 + noise``.
        dropout: probability with which a channel was dropped.

    Source: U-Mamba2-SSL, arXiv 2509.20154.
    """
    attention = attention_map(features)
    threshold = attention.amax(dim=tuple(range(1, features.ndim)), keepdim=True) * threshold_factor
    kept = features * (channel_keep / (1 - dropout)) * (attention < threshold)
    return kept * (1 + noise)


class FeaturePerturbation(nn.Module):
    """Perturbs the deepest skip connections with fresh draws each time.

    Args:
        layers: how many of the deepest skips are perturbed.
        dropout: probability of dropping a channel.
        threshold_range: range of the uniform factor of :func:`perturb_features`.
        noise_range: noise is uniform in ``[-noise_range, noise_range]``.
        seed: seed of the draws, None for PyTorch's own generator.
    """

    def __init__(
        self,
        layers: int = 5,
        dropout: float = 0.5,
        threshold_range: Sequence[float] = (0.6, 0.9),
        noise_range: float = 0.3,
        seed: int | None = None,
    ):
        super().__init__()
        self.layers, self.dropout = layers, dropout
        self.threshold_range, self.noise_range = tuple(threshold_range), noise_range
        # Draws are made on the CPU, so that one seed gives one result on every device.
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def forward(self, skips: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Perturbs a list of encoder outputs, highest resolution first; the first ones are returned as they are."""
        untouched = max(len(skips) - self.layers, 0)
        return [skip if i < untouched else self._perturb(skip) for i, skip in enumerate(skips)]

    def _perturb(self, features: torch.Tensor) -> torch.Tensor:
        low, high = self.threshold_range
        draw = torch.rand((), generator=self.generator).item()
        shape = (*features.shape[:2], *(1,) * (features.ndim - 2))
        keep = (torch.rand(shape, generator=self.generator) >= self.dropout).to(features)
        noise = (torch.rand(features.shape[1:], generator=self.generator) * 2 - 1) * self.noise_range
        return perturb_features(features, keep, low + (high - low) * draw, noise.to(features), self.dropout)
