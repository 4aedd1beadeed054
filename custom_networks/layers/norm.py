"""Instance normalization as group normalization, which keeps the memory format."""

from __future__ import annotations

from torch import nn


def instance_norm(channels: int, eps: float = 1e-5) -> nn.GroupNorm:
    """Affine instance normalization without running statistics.

    ``GroupNorm(channels, channels)`` computes the same function with the same parameter names as
    ``InstanceNorm2d``/``InstanceNorm3d``, several times faster on CPU, and its output stays channels-last.
    """
    return nn.GroupNorm(channels, channels, eps=eps)
