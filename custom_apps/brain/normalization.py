"""Intensities of all four channels by one mean and deviation, or by one range."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

SCALE = 255.0


def standardized(volume: torch.Tensor) -> torch.Tensor:
    """A volume (C, …) of gray values 0 to 255 with mean 0 and unbiased variance 1 over all channels and voxels.

    A constant volume becomes zeros. Source: 3D Mamba MAE, Hu et al. 2024, where a constant volume becomes NaN.
    """
    # Sums of 16 million values need more than float32; a copy of the volume in float64 they do not need.
    values = volume.float() / SCALE
    count = values.numel()
    mean = values.sum(dtype=torch.float64) / count
    values = values - mean.float()
    variance = values.square().sum(dtype=torch.float64) / max(count - 1, 1)
    return values / variance.sqrt().float() if variance > 0 else torch.zeros_like(values)


def scaled_to_unit(volume: torch.Tensor) -> torch.Tensor:
    """A volume (C, …) with values 0 to 1, by the smallest and largest value of all channels; zeros if constant."""
    values = volume.float() / SCALE
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else torch.zeros_like(values)


_KINDS = {
    "zscore": standardized,
    "minmax": scaled_to_unit,
    "none": lambda volume: volume.float() / SCALE,
}


class JointNormalized(MapTransform):
    """Normalizes volumes (4, x, y, z) as a whole, background included, so that contrasts keep their relation.

    Args:
        keys: usually ``image``.
        kind: ``zscore`` (published), ``minmax`` or ``none``: values divided by 255.
        allow_missing_keys: as in MONAI.
    """

    def __init__(self, keys: KeysCollection = "image", kind: str = "zscore", allow_missing_keys: bool = False):
        super().__init__(keys, allow_missing_keys)
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {kind!r}")
        self.kind = kind

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Normalizes each key; the result is float32."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = _KINDS[self.kind](result[key])
        return result
