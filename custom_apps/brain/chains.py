"""Chains of transforms from prepared files to the input of a network."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Compose, CopyItemsd, MapTransform, OneOf, RandFlipd, RandGaussianNoised

from custom_apps.brain.augmentation import RandChannelGammad, RandVolumeAffined
from custom_apps.brain.augmentation_artifacts import RandAnisotropyd, RandMotiond
from custom_apps.brain.loading import LoadPreparedd
from custom_apps.brain.normalization import JointNormalized

AUGMENTATIONS = ("none", "light", "strong")
STRONG_PROBABILITY = 0.3


class BrainVolumes(Compose):
    """Loads prepared contrasts, normalizes them together, and changes them at random.

    ``light`` is the published augmentation of pre-training: rotation and stretching, then Gaussian noise, then a power
    of the values of each channel. ``strong`` adds thick slices and motion in three of ten cases. Published fine-tuning
    has ``none``. Nothing is normalized again afterwards.

    Args:
        size: voxels along every axis that volumes must have; None takes what comes.
        normalization: ``zscore`` (published), ``minmax`` or ``none``.
        augment: ``none``, ``light`` or ``strong``.
        flip_probability: of exchanging left and right, which the publication does not do.
        clean_target: also give ``target``, the same volume without the noise. A masked autoencoder that predicts it has
            no noise to guess in the background.
        spacing_mm: edge of a voxel, for motion in mm.

    Source: 3D Mamba MAE, Hu et al. 2024.
    """

    def __init__(
        self,
        size: Sequence[int] | None = None,
        normalization: str = "zscore",
        augment: str = "none",
        flip_probability: float = 0.0,
        clean_target: bool = False,
        spacing_mm: float = 1.0,
    ):
        if augment not in AUGMENTATIONS:
            raise ValueError(f"augment must be one of {', '.join(AUGMENTATIONS)}, got {augment!r}")
        keys = ["image", "target"] if clean_target else ["image"]
        chain: list = [LoadPreparedd("image", size), WithGeometryd("image"), JointNormalized("image", normalization)]
        if clean_target:
            chain.append(CopyItemsd("image", names="target"))
        if flip_probability:
            chain.append(RandFlipd(keys, prob=flip_probability, spatial_axis=0))
        if augment != "none":
            light = [RandVolumeAffined(keys), RandGaussianNoised("image", prob=1.0, std=0.1), RandChannelGammad(keys)]
            artifacts = [RandAnisotropyd(keys), RandMotiond(keys, spacing_mm=spacing_mm)]
            if augment == "light":
                chain += light
            else:
                chances = [STRONG_PROBABILITY, 1 - STRONG_PROBABILITY]
                chain.append(OneOf([Compose([*light, *artifacts]), Compose(light)], weights=chances))
        super().__init__(chain)


class WithGeometryd(MapTransform):
    """Adds ``affine``, from voxel index to position in mm, and makes the volume a plain tensor.

    Of volumes that were prepared on the way also ``original_affine`` and ``original_shape``.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Takes the geometry of each key."""
        result = dict(data)
        for key in self.key_iterator(result):
            result["affine"] = result[key].affine.double()
            for name in ("original_affine", "original_shape"):
                if name in result[key].meta:
                    result[name] = torch.as_tensor(result[key].meta[name])
            result[key] = result[key].as_tensor()
        return result
