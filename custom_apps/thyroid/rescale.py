"""Sizes of images and masks for segmentation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from custom_apps.thyroid.image_resize import resize_linear, resize_nearest, resize_smooth, size_of

INTERPOLATIONS = ("nearest", "linear", "smooth")


def fitted_size(size: Sequence[int], limits: Sequence[int]) -> tuple[int, int]:
    """Height and width as large as fit, with the aspect kept.

    Args:
        size: height and width now.
        limits: greatest long and greatest short side.

    Source: mmsegmentation.
    """
    factor = min(max(limits) / max(size), min(limits) / min(size))
    return int(size[0] * factor + 0.5), int(size[1] * factor + 0.5)


class RescaleToFitd(MapTransform, Randomizable):
    """Rescales images bilinearly and masks to their nearest neighbor so that they fit limits, with the aspect kept.

    Args:
        keys: uint8 (C, H, W).
        limits: greatest long and greatest short side of the result.
        ratio: range of a factor of both limits, drawn uniformly; None for the limits as they are.
        label_key: which of the keys is a mask.
        allow_missing_keys: as in MONAI.

    Source: mmsegmentation's pipeline as used by Deblurring MAE, 1096×768 with a factor of 0.5 to 2 in training.
    """

    def __init__(
        self,
        keys: KeysCollection = ("image", "label"),
        limits: Sequence[int] = (1096, 768),
        ratio: Sequence[float] | None = None,
        label_key: str = "label",
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.limits, self.ratio, self.label_key = size_of(limits), None if ratio is None else tuple(ratio), label_key

    def randomize(self, data: Any = None) -> tuple[int, int]:
        """Draws the limits."""
        factor = 1.0 if self.ratio is None else self.R.uniform(*self.ratio)
        return int(self.limits[0] * factor), int(self.limits[1] * factor)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """(C, H, W) to (C, H', W')."""
        result = dict(data)
        limits = self.randomize()
        for key in self.key_iterator(result):
            size = fitted_size(result[key].shape[-2:], limits)
            resize = resize_nearest if key == self.label_key else resize_linear
            result[key] = resize(result[key], size)
        return result


class SquareImaged(MapTransform):
    """Resizes images to a square and masks to one of their own.

    Args:
        keys: uint8 (C, H, W).
        size: edge of images in pixels.
        label_size: edge of masks; None leaves masks as they are.
        interpolation: of images: ``nearest``, as published, ``linear``, or ``smooth`` (bilinear with anti-aliasing).
        keep_aspect: fit images and masks into the square and fill up below or on the right, images with 0, masks with
            255; otherwise squash them, as published.
        label_key: which of the keys is a mask.
        allow_missing_keys: as in MONAI.

    Source: U-Net route of Deblurring MAE, Kang et al. 2023.
    """

    def __init__(
        self,
        keys: KeysCollection = ("image", "label"),
        size: int = 512,
        label_size: int | None = 256,
        interpolation: str = "nearest",
        keep_aspect: bool = False,
        label_key: str = "label",
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {interpolation!r}")
        self.size, self.label_size, self.label_key = int(size), label_size, label_key
        self.interpolation, self.keep_aspect = interpolation, keep_aspect

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """(C, H, W) to (C, edge, edge)."""
        result = dict(data)
        for key in self.key_iterator(result):
            is_label = key == self.label_key
            edge = self.label_size if is_label else self.size
            if edge is None:
                continue
            sides = result[key].shape[-2:]
            inner = [max(1, round(edge * side / max(sides))) for side in sides] if self.keep_aspect else [edge, edge]
            resized = self._resized(result[key], inner, "nearest" if is_label else self.interpolation)
            result[key] = padded(resized, (edge, edge), 255 if is_label else 0)
        return result

    @staticmethod
    def _resized(image: np.ndarray, size: Sequence[int], interpolation: str) -> np.ndarray:
        if interpolation == "nearest":
            return resize_nearest(image, size)
        return resize_linear(image, size) if interpolation == "linear" else resize_smooth(image, size, "bilinear")


def padded(image: np.ndarray, size: Sequence[int], value: float) -> np.ndarray:
    """Fills up to at least ``size`` below and on the right."""
    missing = [(0, max(0, new - old)) for new, old in zip(size, image.shape[-2:], strict=True)]
    return np.pad(np.asarray(image), [(0, 0), *missing], constant_values=value)
