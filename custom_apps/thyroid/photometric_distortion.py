"""Photometric distortion: brightness, contrast, saturation and hue by lot."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

HUES = 180
"""Hues in a circle, as OpenCV counts them for 8-bit images."""


class RandPhotometricd(MapTransform, Randomizable):
    """Changes brightness, contrast, saturation and hue, each with probability 0.5; contrast comes second or last.

    Gray images (1, H, W), and colors that are gray, have neither saturation nor hue to change.

    Args:
        keys: uint8 (1, H, W) or (3, H, W).
        brightness: largest number of gray levels added or taken away.
        contrast: range of the factor of all values.
        saturation: range of the factor of the saturation.
        hue: largest step, in 1/180 of the circle.

    Source: mmsegmentation, after Liu et al. 2016 (SSD), as used by Deblurring MAE.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        brightness: float = 32.0,
        contrast: Sequence[float] = (0.5, 1.5),
        saturation: Sequence[float] = (0.5, 1.5),
        hue: int = 18,
    ):
        super().__init__(keys)
        self.brightness, self.contrast = brightness, tuple(contrast)
        self.saturation, self.hue = tuple(saturation), int(hue)

    def randomize(self, data: Any = None) -> list[tuple[str, float]]:
        """Draws the changes in their order."""
        brightness = ("brightness", self.R.uniform(-self.brightness, self.brightness))
        contrast = ("contrast", self.R.uniform(*self.contrast))
        color = [("saturation", self.R.uniform(*self.saturation)), ("hue", self.R.randint(-self.hue, self.hue))]
        chosen = self.R.randint(2, size=4)
        contrast_first = self.R.randint(2)
        steps = [brightness, contrast, *color] if contrast_first else [brightness, *color, contrast]
        kept = {name for name, use in zip(("brightness", "contrast", "saturation", "hue"), chosen, strict=True) if use}
        return [(name, float(value)) for name, value in steps if name in kept]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shapes."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = np.asarray(result[key])
            for name, value in self.randomize():
                if name == "brightness":
                    image = linear(image, 1, value)
                elif name == "contrast":
                    image = linear(image, value, 0)
                elif len(image) == 3:
                    image = _recolored(image, **{name: value})
            result[key] = image
        return result


def linear(image: np.ndarray, factor: float, offset: float) -> np.ndarray:
    """``factor * image + offset``, clipped and cut off to uint8."""
    return np.clip(image.astype(np.float32) * np.float32(factor) + np.float32(offset), 0, 255).astype(np.uint8)


def _recolored(image: np.ndarray, saturation: float = 1.0, hue: float = 0.0) -> np.ndarray:
    """Color (3, H, W) with another saturation or hue."""
    from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

    values = rgb_to_hsv(image.transpose(1, 2, 0) / 255)
    values[..., 0] = (values[..., 0] + hue / HUES) % 1
    values[..., 1] = np.clip(values[..., 1] * saturation, 0, 1)
    return np.rint(255 * hsv_to_rgb(values)).astype(np.uint8).transpose(2, 0, 1)
