"""Transforms of single frames: gray values, smoothing, size. All frames of a clip are treated alike.

They act on the last axes, so that a clip (C, L, H, W) and several clips (k, C, L, H, W) both fit.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform

LUMA = (0.2989, 0.587, 0.114)


class GrayVideod(MapTransform):
    """One channel of float32 from 0 to 1: weighted sum of RGB; what has one channel already is only scaled.

    uint8 is divided by 255; floating-point frames are taken to be from 0 to 1 already.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """(…, 3 or 1, L, H, W) to (…, 1, L, H, W)."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = to_gray(result[key])
        return result


def to_gray(frames: torch.Tensor) -> torch.Tensor:
    """(…, 3 or 1, L, H, W) of uint8, or of floats from 0 to 1, to (…, 1, L, H, W) float32 from 0 to 1."""
    scale = 1.0 if frames.is_floating_point() else 255.0
    channels = frames.unbind(-4)
    if len(channels) == 1:
        return frames.float() / scale
    if len(channels) != 3:
        raise ValueError(f"frames have {len(channels)} channels, expected 1 or 3")
    return sum(channel.float() * (weight / scale) for channel, weight in zip(channels, LUMA, strict=True)).unsqueeze(-4)


class SmoothFramesd(MapTransform):
    """3×3 median and/or 3×3 Gaussian filter of each frame.

    Args:
        keys: usually ``image``, floating point.
        median: median filter; beyond the border the frame's edge repeats.
        gaussian: Gaussian filter after it; beyond the border the frame is mirrored without repeating its edge.
        gaussian_sigma: standard deviation in pixels.
        allow_missing_keys: as in MONAI.

    Source: options ``median_blur`` and ``gaussian_blur`` of E-ViM3 (arXiv 2503.20258), off in its published runs.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        median: bool = False,
        gaussian: bool = False,
        gaussian_sigma: float = 0.6,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.median, self.gaussian, self.gaussian_sigma = median, gaussian, gaussian_sigma

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shape."""
        from scipy.ndimage import gaussian_filter, median_filter

        result = dict(data)
        for key in self.key_iterator(result):
            frames = result[key].numpy()
            if self.median:
                frames = median_filter(frames, size=3, mode="nearest", axes=(-2, -1))
            if self.gaussian:
                frames = gaussian_filter(frames, self.gaussian_sigma, mode="mirror", radius=1, axes=(-2, -1))
            result[key] = torch.from_numpy(frames)
        return result


class ResizeFramesd(MapTransform):
    """Frames of another size: bilinear with anti-aliasing for images, nearest for label maps; no-op at that size.

    Args:
        keys: images (floating point) and label maps (integer).
        size: edge in pixels, or height and width.
        allow_missing_keys: as in MONAI.

    MONAI's ``Resize`` smooths with a Gaussian before it shrinks; the published chains use the triangle filter.
    """

    def __init__(self, keys: KeysCollection, size: int | Sequence[int] = 112, allow_missing_keys: bool = False):
        super().__init__(keys, allow_missing_keys)
        self.size = frame_size(size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """(…, H, W) to (…, *size)."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = resize(result[key], self.size)
        return result


def frame_size(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width; one number means a square."""
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def resize(frames: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The last two axes in another size; integers by nearest neighbor."""
    if tuple(frames.shape[-2:]) == size:
        return frames
    flat = frames.reshape(1, -1, *frames.shape[-2:])
    if frames.is_floating_point():
        flat = F.interpolate(flat, size, mode="bilinear", antialias=True, align_corners=False)
    else:
        flat = F.interpolate(flat.double(), size, mode="nearest-exact").to(frames.dtype)
    return flat.reshape(*frames.shape[:-2], *size)
