"""The published chains of augmentation, from the patch as cut to what the network sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.transforms import (
    Compose,
    EnsureTyped,
    MapLabelValued,
    RandFlipd,
    RandGaussianNoised,
    RandScaleIntensityd,
    Transform,
)

from custom_apps.seg.augmentation_intensity import (
    RandChannelBlurd,
    RandChannelBrightnessd,
    RandChannelContrastd,
    RandChannelGammad,
)
from custom_apps.seg.augmentation_labels import MaskOutsided, RandLeftRightFlipd
from custom_apps.seg.augmentation_resolution import RandChannelLowResolutiond
from custom_apps.seg.augmentation_spatial import RandRotateScaleCropd

BOTH = ("image", "label")
IMAGE = ("image",)
RECIPES = ("u_mamba", "u_mamba2")


class TrainingTransforms(Compose):
    """Augmentation of nnU-Net as U-Mamba and U-Mamba2 use it, on dictionaries of ``image`` and ``label``.

    Rotation and scaling, noise, blur, brightness, contrast, low resolution, two gamma curves, mirroring; then masked
    channels are set to 0 outside the image and label -1 becomes 0. Every draw is made anew for each sample; brightness,
    contrast and gamma for each channel.

    Args:
        patch_size: final size in voxels, two or three axes.
        recipe: ``u_mamba`` or ``u_mamba2``; they differ in how blur and brightness are drawn and in the interpolation.
        interpolation: ``cubic`` or ``linear`` for rotated, scaled and coarsened images; that of the recipe (cubic for
            U-Mamba, linear for U-Mamba2) when None. Linear is several times faster.
        mirror_axes: spatial axes that may be flipped, all when None; empty for no mirroring.
        left_right_pairs: labels that change places when the left-right axis is flipped, e.g. ``[[1, 2]]``.
        left_right_axis: that spatial axis, the last by default.
        masked_channels: channels that are 0 outside the image because they were normalised within it.

    Attributes:
        initial_patch_size: size of the patches it wants, in voxels.

    Source: nnU-Net, Isensee et al. 2021; U-Mamba, arXiv 2401.04722; U-Mamba2, arXiv 2509.12069.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        recipe: str = "u_mamba",
        interpolation: str | None = None,
        mirror_axes: Sequence[int] | None = None,
        left_right_pairs: Sequence[Sequence[int]] | None = None,
        left_right_axis: int | None = None,
        masked_channels: Sequence[int] = (),
    ):
        if recipe not in RECIPES:
            raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, got {recipe!r}")
        later = recipe == "u_mamba2"
        interpolation = interpolation or ("linear" if later else "cubic")
        spatial = RandRotateScaleCropd(BOTH, patch_size, interpolation=interpolation)
        fixed_axes = (0,) if spatial.range.dummy_2d else ()
        super().__init__(
            [
                spatial,
                RandGaussianNoised(IMAGE, prob=0.1, mean=0.0, std=0.1),
                RandChannelBlurd(IMAGE, each_axis=later),
                RandChannelBrightnessd(IMAGE) if later else RandScaleIntensityd(IMAGE, 0.25, 0.15, channel_wise=True),
                RandChannelContrastd(IMAGE),
                RandChannelLowResolutiond(IMAGE, interpolation=interpolation, fixed_axes=fixed_axes),
                RandChannelGammad(IMAGE, prob=0.1, invert=True),
                RandChannelGammad(IMAGE, prob=0.3),
                *_mirroring(len(patch_size), mirror_axes, left_right_pairs, left_right_axis),
                *([MaskOutsided(IMAGE, masked_channels)] if masked_channels else []),
                *_finish(),
            ]
        )
        self.initial_patch_size = spatial.initial_patch_size


class ValidationTransforms(Compose):
    """What remains of the chain without augmentation: label -1 becomes 0."""

    def __init__(self) -> None:
        super().__init__(_finish())


def _mirroring(
    spatial_axes: int, mirror_axes: Sequence[int] | None, pairs: Sequence[Sequence[int]] | None, left_right: int | None
) -> list[Transform]:
    axes = range(spatial_axes) if mirror_axes is None else mirror_axes
    if pairs:
        return [RandLeftRightFlipd(BOTH, pairs, -1 if left_right is None else left_right, axes=list(axes))]
    return [RandFlipd(BOTH, prob=0.5, spatial_axis=axis) for axis in axes]


def _finish() -> list[Transform]:
    return [
        MapLabelValued(["label"], orig_labels=[-1], target_labels=[0], dtype=torch.int16),
        EnsureTyped(BOTH, track_meta=False),
    ]
