"""Random changes of volumes with four contrasts, of place and of brightness."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import Affine, MapTransform, Randomizable


class RandVolumeAffined(MapTransform, Randomizable):
    """Turns and stretches all channels by one matrix about the middle of the volume.

    Outside the volume there is the smallest value of each channel, which is the background of normalized volumes.

    Args:
        keys: volumes (C, x, y, z) that move together.
        degrees: angle about each axis, uniform in ± this.
        scale: stretching of each axis, uniform in 1 ± this.
        allow_missing_keys: as in MONAI.

    Source: 3D Mamba MAE, Hu et al. 2024 (``RandomAffine`` of TorchIO). Deviation from MONAI's ``RandAffined``, which
    draws the factor of the inverse matrix and fills with zeros; the resampling is MONAI's.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        degrees: float = 10.0,
        scale: float = 0.1,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.degrees, self.scale = degrees, scale

    def randomize(self, data: Any = None) -> tuple[list[float], list[float]]:
        """Draws angles in radians and factors, one an axis."""
        reach = math.radians(self.degrees)
        factors = self.R.uniform(1 - self.scale, 1 + self.scale, 3)
        return self.R.uniform(-reach, reach, 3).tolist(), factors.tolist()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shapes."""
        result = dict(data)
        angles, factors = self.randomize()
        for key in self.key_iterator(result):
            result[key] = moved(result[key], angles, factors)
        return result


def moved(
    volume: torch.Tensor,
    radians: Sequence[float],
    factors: Sequence[float] = (1.0, 1.0, 1.0),
    shift_voxels: Sequence[float] = (0.0, 0.0, 0.0),
) -> torch.Tensor:
    """Rotates, stretches and shifts (C, x, y, z), trilinear, with the smallest value of each channel outside.

    Args:
        volume: floating point.
        radians: angle about each axis.
        factors: above 1 what is in the volume grows.
        shift_voxels: along each axis.
    """
    low = volume.amin(dim=(1, 2, 3), keepdim=True)
    # MONAI's matrix maps places of the result to places of the source.
    move = Affine(
        rotate_params=tuple(radians),
        scale_params=tuple(1 / factor for factor in factors),
        translate_params=tuple(-shift for shift in shift_voxels),
        padding_mode="zeros",
        image_only=True,
    )
    result = move(volume - low)
    return (result.as_tensor() if hasattr(result, "as_tensor") else result) + low


class RandChannelGammad(MapTransform, Randomizable):
    """Raises the size of values to a random power, another one in each channel, and keeps their sign.

    Args:
        keys: volumes (C, …) that get the same powers.
        log_gamma: the power is the exponential of a number uniform in ± this.
        allow_missing_keys: as in MONAI.

    Source: 3D Mamba MAE, Hu et al. 2024 (``RandomGamma`` of TorchIO). MONAI's ``RandAdjustContrast`` first maps values
    to 0 to 1.
    """

    def __init__(self, keys: KeysCollection = "image", log_gamma: float = 0.3, allow_missing_keys: bool = False):
        super().__init__(keys, allow_missing_keys)
        self.log_gamma = log_gamma

    def randomize(self, data: int) -> np.ndarray:
        """Draws the powers of ``data`` channels."""
        return np.exp(self.R.uniform(-self.log_gamma, self.log_gamma, data))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shapes."""
        result = dict(data)
        powers: torch.Tensor | None = None
        for key in self.key_iterator(result):
            volume = result[key]
            if powers is None:
                drawn = torch.from_numpy(self.randomize(len(volume))).to(volume.dtype)
                powers = drawn.view(-1, *(1,) * (volume.ndim - 1))
            result[key] = volume.sign() * volume.abs() ** powers
        return result
