"""Strong changes of intensity, for the harder of two views of an image without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms import (
    Compose,
    CopyItemsd,
    EnsureTyped,
    OneOf,
    RandCoarseDropoutd,
    RandFlipd,
    RandGaussianNoised,
    SelectItemsd,
)

from custom_apps.seg.augmentation_intensity import (
    ChannelwiseTransform,
    RandChannelBlurd,
    RandChannelBrightnessd,
    RandChannelContrastd,
    RandChannelGammad,
)
from custom_apps.seg.augmentation_labels import MaskOutsided
from custom_apps.seg.augmentation_resolution import RandChannelLowResolutiond
from custom_apps.seg.augmentation_spatial import RandRotateScaleCropd

IMAGE, BOTH, VIEWS = ("image",), ("image", "label"), ("image", "weak")


class RandChannelMediand(ChannelwiseTransform):
    """Median filter over a cube of random edge.

    Args:
        keys, prob, channel_prob: see :class:`ChannelwiseTransform`.
        edge: smallest and largest edge of the cube in voxels.
    """

    def __init__(self, keys: Sequence[str], prob: float, channel_prob: float = 1.0, edge: Sequence[int] = (2, 7)):
        super().__init__(keys, prob, channel_prob)
        self.edge = tuple(edge)

    def change(self, channel: torch.Tensor) -> torch.Tensor:
        """Filters one channel."""
        from scipy.ndimage import median_filter

        return torch.from_numpy(median_filter(np.asarray(channel), int(self.R.randint(self.edge[0], self.edge[1] + 1))))


class RandChannelSharpend(ChannelwiseTransform):
    """Subtracts a share of the Laplacian, which sharpens edges.

    Args:
        keys, prob, channel_prob: see :class:`ChannelwiseTransform`.
        strength: range of the share.
    """

    def __init__(
        self, keys: Sequence[str], prob: float, channel_prob: float = 1.0, strength: Sequence[float] = (0.1, 1.0)
    ):
        super().__init__(keys, prob, channel_prob)
        self.strength = tuple(strength)

    def change(self, channel: torch.Tensor) -> torch.Tensor:
        """Sharpens one channel."""
        from scipy.ndimage import laplace

        return channel - self.R.uniform(*self.strength) * torch.from_numpy(laplace(np.asarray(channel)))


@dataclass(frozen=True)
class Probabilities:
    """Probability of each step; of a pair of alternatives, that of the one that was picked."""

    smoothing: float
    noise: float
    brightness: float
    contrast: float
    low_resolution: float
    inverted_gamma: float
    gamma: float
    boxes: float
    sharpening: float


STRENGTHS = {
    "strong": Probabilities(0.5, 0.5, 0.5, 0.5, 0.7, 0.2, 0.5, 0.7, 0.5),
    "mild": Probabilities(0.3, 0.25, 0.3, 0.3, 0.4, 0.1, 0.3, 0.4, 0.3),
}


class StrongIntensityTransforms(Compose):
    """Intensity augmentation of U-Mamba2-SSL on dictionaries of ``image`` (C, *patch_size).

    Median filter or blur; noise; brightness; contrast with or without the old range; low resolution; two gamma curves;
    blank boxes; sharpening. Some steps of MONAI change the image in place: give a copy if the image is needed further.

    Args:
        patch_size: in voxels; sizes the boxes.
        strength: ``strong`` (published) or ``mild``.
        median_edge: smallest and largest edge of the median filter; cubes of 7 take seconds on large patches.

    Raises:
        ValueError: for another strength.

    Source: U-Mamba2-SSL, arXiv 2509.20154.
    """

    def __init__(self, patch_size: Sequence[int], strength: str = "strong", median_edge: Sequence[int] = (2, 7)):
        if strength not in STRENGTHS:
            raise ValueError(f"strength must be one of {', '.join(STRENGTHS)}, got {strength!r}")
        p, wide = STRENGTHS[strength], (0.5, 1.5)
        smallest, largest = ([max(1, edge // part) for edge in patch_size] for part in (10, 3))
        super().__init__(
            [
                OneOf(
                    [
                        RandChannelMediand(IMAGE, p.smoothing, edge=median_edge),
                        RandChannelBlurd(IMAGE, p.smoothing, 1.0, (0.3, 1.5), each_axis=True),
                    ]
                ),
                RandGaussianNoised(IMAGE, prob=p.noise, mean=0.0, std=0.1),
                RandChannelBrightnessd(IMAGE, p.brightness, wide),
                OneOf(
                    [
                        RandChannelContrastd(IMAGE, p.contrast, wide),
                        RandChannelContrastd(IMAGE, p.contrast, wide, keep_range=False),
                    ]
                ),
                RandChannelLowResolutiond(IMAGE, p.low_resolution, 1.0, (0.25, 1.0)),
                RandChannelGammad(IMAGE, p.inverted_gamma, invert=True),
                RandChannelGammad(IMAGE, p.gamma),
                RandCoarseDropoutd(
                    IMAGE,
                    holes=1,
                    max_holes=4,
                    spatial_size=smallest,
                    max_spatial_size=largest,
                    fill_value=0.0,
                    prob=p.boxes,
                ),
                RandChannelSharpend(IMAGE, p.sharpening),
            ]
        )


class UnlabeledTransforms(Compose):
    """Two views of a patch without labels: ``weak``, rotated, scaled and mirrored, and ``image``, changed further.

    Args:
        patch_size: final size in voxels.
        strength, median_edge: see :class:`StrongIntensityTransforms`.
        mirror_axes: spatial axes that may be flipped, all when None.
        masked_channels: channels that stay 0 outside the image.

    Attributes:
        initial_patch_size: size of the patches it wants, in voxels.

    Source: U-Mamba2-SSL, arXiv 2509.20154. Deviation: the published loader changes both views, which share memory;
    here only the strong one is changed.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        strength: str = "strong",
        median_edge: Sequence[int] = (2, 7),
        mirror_axes: Sequence[int] | None = None,
        masked_channels: Sequence[int] = (),
    ):
        axes = range(len(patch_size)) if mirror_axes is None else mirror_axes
        spatial = RandRotateScaleCropd(BOTH, patch_size, interpolation="linear")
        mask = [MaskOutsided(IMAGE, masked_channels)] if masked_channels else []
        super().__init__(
            [
                spatial,
                *(RandFlipd(BOTH, prob=0.5, spatial_axis=axis) for axis in axes),
                *mask,
                EnsureTyped(BOTH, track_meta=False),
                CopyItemsd(IMAGE, names=["weak"]),
                StrongIntensityTransforms(patch_size, strength, median_edge),
                *mask,
                SelectItemsd(VIEWS),
                EnsureTyped(VIEWS, track_meta=False),
            ]
        )
        self.initial_patch_size = spatial.initial_patch_size
