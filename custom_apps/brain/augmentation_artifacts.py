"""Artifacts of MR scanners: thick slices, and a head that moved during the scan."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from custom_apps.brain.augmentation import moved


class RandAnisotropyd(MapTransform, Randomizable):
    """Thick slices along a random axis: fewer of them by nearest neighbor, then the former number by interpolation.

    Args:
        keys: volumes (C, x, y, z) that get the same slices.
        downsampling: range of the factor.
        allow_missing_keys: as in MONAI.

    Source: 3D Mamba MAE, Hu et al. 2024 (``RandomAnisotropy`` of TorchIO). MONAI's ``RandSimulateLowResolution``
    coarsens all axes alike.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        downsampling: Sequence[float] = (1.5, 2.5),
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.downsampling = tuple(downsampling)

    def randomize(self, data: Any = None) -> tuple[int, float]:
        """Draws axis and factor."""
        return int(self.R.randint(3)), float(self.R.uniform(*self.downsampling))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shapes."""
        result = dict(data)
        axis, factor = self.randomize()
        for key in self.key_iterator(result):
            volume = result[key]
            coarse = list(volume.shape[1:])
            coarse[axis] = max(1, round(coarse[axis] / factor))
            few = F.interpolate(volume[None], size=coarse, mode="nearest-exact")
            result[key] = F.interpolate(few, size=volume.shape[1:], mode="trilinear", align_corners=False)[0]
        return result


class RandMotiond(MapTransform, Randomizable):
    """A head that takes other poses during the scan: parts of the spectrum come from the volume in each pose.

    Args:
        keys: volumes (C, x, y, z) that get the same motion.
        degrees: range of the angle about each axis.
        shift_mm: range of the shift along each axis.
        poses: movements during the scan.
        spacing_mm: edge of a voxel.
        allow_missing_keys: as in MONAI.

    Source: 3D Mamba MAE, Hu et al. 2024 (``RandomMotion`` of TorchIO; Shaw et al. 2019). MONAI has no such transform.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        degrees: Sequence[float] = (0.0, 45.0),
        shift_mm: Sequence[float] = (1.0, 3.0),
        poses: int = 2,
        spacing_mm: float = 1.0,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.degrees, self.shift_mm, self.poses, self.spacing_mm = tuple(degrees), tuple(shift_mm), poses, spacing_mm

    def randomize(self, data: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draws angles (radians) and shifts (voxels) of each pose, and the parts of the scan at which they begin."""
        angles = self.R.uniform(*(math.radians(d) for d in self.degrees), (self.poses, 3))
        shifts = self.R.uniform(*(mm / self.spacing_mm for mm in self.shift_mm), (self.poses, 3))
        # About evenly over the scan.
        step = 1 / (self.poses + 1)
        begins = step * np.arange(1, self.poses + 1) + self.R.uniform(-step / 2, step / 2, self.poses)
        return angles, shifts, begins

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shapes."""
        result = dict(data)
        angles, shifts, begins = self.randomize()
        for key in self.key_iterator(result):
            volume = result[key]
            spectrum = _spectrum(volume)
            for angle, shift, begin in zip(angles, shifts, begins, strict=True):
                first = int(begin * volume.shape[-1])
                spectrum[..., first:] = _spectrum(moved(volume, angle, shift_voxels=shift))[..., first:]
            axes = (-3, -2, -1)
            result[key] = torch.fft.ifftn(torch.fft.ifftshift(spectrum, axes), dim=axes).real.to(volume.dtype)
        return result


def _spectrum(volume: torch.Tensor) -> torch.Tensor:
    """Spectrum over space with the mean in the middle: slices of a scan are lines about it."""
    axes = (-3, -2, -1)
    return torch.fft.fftshift(torch.fft.fftn(volume, dim=axes), axes)
