"""Crops and sizes of images for pre-training and classification."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from custom_apps.common.random_box import random_box
from custom_apps.thyroid.image_resize import resize_smooth, size_of

CROPPED_SHARE = 0.875


class RandResizedCropd(MapTransform, Randomizable):
    """Cuts one random box out of all images and resizes it, bicubic with anti-aliasing.

    Args:
        keys: uint8 (C, H, W) of one size; all get the same box.
        size: edge of the result in pixels, or height and width.
        area: range of the box's share of the image.
        ratio: range of width over height.
        interpolation: ``bicubic`` or ``bilinear``.

    Source: masked autoencoders, He et al. 2022, and Deblurring MAE, Kang et al. 2023, whose pairs of images share their
    draws only as far as the clock allows.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        size: int | Sequence[int] = 224,
        area: Sequence[float] = (0.2, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = "bicubic",
    ):
        super().__init__(keys)
        self.size, self.area, self.ratio, self.interpolation = size_of(size), tuple(area), tuple(ratio), interpolation

    def randomize(self, data: Sequence[int]) -> tuple[int, int, int, int]:
        """Draws top, left, height and width of the box in an image of size ``data``."""
        return random_box(self.R, data, self.area, self.ratio)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """(C, H, W) to (C, *size)."""
        result = dict(data)
        box = None
        for key in self.key_iterator(result):
            box = self.randomize(result[key].shape[-2:]) if box is None else box
            top, left, height, width = box
            crop = np.asarray(result[key])[:, top : top + height, left : left + width]
            result[key] = resize_smooth(crop, self.size, self.interpolation)
        return result


class Squashd(MapTransform):
    """Resizes images to one size, whatever their aspect; bilinear with anti-aliasing.

    Args:
        keys: uint8 (C, H, W).
        size: edge of the result in pixels, or height and width.
        interpolation: ``bilinear`` or ``bicubic``.
    """

    def __init__(
        self, keys: KeysCollection = "image", size: int | Sequence[int] = 224, interpolation: str = "bilinear"
    ):
        super().__init__(keys)
        self.size, self.interpolation = size_of(size), interpolation

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """(C, H, W) to (C, *size)."""
        return dict(data) | {
            key: resize_smooth(data[key], self.size, self.interpolation) for key in self.key_iterator(dict(data))
        }


class ResizeCenterCropd(MapTransform):
    """Resizes the shorter side, bicubic with anti-aliasing, and cuts out the middle.

    Args:
        keys: uint8 (C, H, W).
        size: edge of the result in pixels.
        share: ``size`` over the length that the shorter side gets; None for 0.875 up to 224 pixels and 1 above.

    Source: evaluation of masked autoencoders, He et al. 2022.
    """

    def __init__(self, keys: KeysCollection = "image", size: int = 224, share: float | None = None):
        super().__init__(keys)
        share = (CROPPED_SHARE if size <= 224 else 1.0) if share is None else share
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {share}")
        self.size, self.shorter = int(size), int(size / share)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """(C, H, W) to (C, size, size)."""
        result = dict(data)
        for key in self.key_iterator(result):
            sides = result[key].shape[-2:]
            resized = [self.shorter if side == min(sides) else self.shorter * side // min(sides) for side in sides]
            top, left = (round((side - self.size) / 2) for side in resized)
            image = resize_smooth(result[key], resized)
            result[key] = image[:, top : top + self.size, left : left + self.size]
        return result
