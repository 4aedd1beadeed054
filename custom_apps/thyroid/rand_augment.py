"""RandAugment: a few of fifteen operations on an image, drawn by lot."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from PIL import Image, ImageEnhance, ImageOps

from custom_apps.thyroid.image_resize import from_pillow, to_pillow

FILL = (124, 116, 104)
"""Mean color of ImageNet, for what comes from outside an image."""
FULL = 10.0

Operation = Callable[[Image.Image, float, int], Image.Image]


class RandAugmentd(MapTransform, Randomizable):
    """Applies operations drawn with replacement from fifteen, each of them only with some probability.

    ================================ ===============================================================
    auto_contrast, equalize, invert  of each color
    rotate, shear_x, shear_y         up to ±30°, ±0.3, ±0.3
    translate_x, translate_y         up to ±45 % of width and height
    posterize                        4 bits of each value left, down to none
    solarize                         values from 256 down to 0 on are inverted
    solarize_add                     up to 110 more for values below 128
    color, contrast, brightness,     factor 1 ± up to 0.9
    sharpness
    ================================ ===============================================================

    The limits are reached with magnitude 10. Signs are drawn by lot.

    Args:
        keys: uint8 (3, H, W); each image gets draws of its own.
        magnitude: mean of the magnitudes.
        magnitude_std: their standard deviation; they are kept within 0 to 10.
        operations: how many are drawn.
        prob: probability of each that was drawn.

    Source: Cubuk et al. 2020, arXiv 1909.13719, with the settings of Deblurring MAE (``rand-m9-mstd0.5-inc1``).
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        magnitude: float = 9.0,
        magnitude_std: float = 0.5,
        operations: int = 2,
        prob: float = 0.5,
    ):
        super().__init__(keys)
        self.magnitude, self.magnitude_std, self.operations, self.prob = magnitude, magnitude_std, operations, prob

    def randomize(self, data: Any = None) -> list[tuple[str, float, int]]:
        """Draws names, shares of the full magnitude, and signs."""
        drawn = []
        for name in self.R.choice(list(OPERATIONS), self.operations):
            share = np.clip(self.R.normal(self.magnitude, self.magnitude_std), 0, FULL) / FULL
            sign = 1 if self.R.uniform() < 0.5 else -1
            if self.R.uniform() < self.prob:
                drawn.append((str(name), float(share), sign))
        return drawn

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shapes."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = to_pillow(result[key])
            if image.mode != "RGB":
                raise ValueError(f"RandAugment takes images of three channels, got {np.shape(result[key])}")
            for name, share, sign in self.randomize():
                image = OPERATIONS[name](image, share, sign)
            result[key] = from_pillow(image)
        return result


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=FILL)


def _rotate(image: Image.Image, share: float, sign: int) -> Image.Image:
    return image.rotate(sign * 30 * share, Image.Resampling.BICUBIC, fillcolor=FILL)


def _posterize(image: Image.Image, share: float, sign: int) -> Image.Image:
    kept = 0xFF & (0xFF << 4 + int(4 * share))
    return image.point([value & kept for value in range(256)] * len(image.getbands()))


def _solarize(image: Image.Image, share: float, sign: int) -> Image.Image:
    return ImageOps.solarize(image, 256 - int(256 * share))


def _solarize_add(image: Image.Image, share: float, sign: int) -> Image.Image:
    added = int(110 * share)
    table = [min(255, value + added) if value < 128 else value for value in range(256)]
    return image.point(table * len(image.getbands()))


def _enhanced(kind: Callable[[Image.Image], Any]) -> Operation:
    return lambda image, share, sign: kind(image).enhance(max(0.1, 1 + sign * 0.9 * share))


def _translated(axis: int) -> Operation:
    def operation(image: Image.Image, share: float, sign: int) -> Image.Image:
        shift = [0.0, 0.0]
        shift[axis] = sign * 0.45 * share * image.size[axis]
        return _affine(image, (1, 0, shift[0], 0, 1, shift[1]))

    return operation


OPERATIONS: dict[str, Operation] = {
    "auto_contrast": lambda image, share, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, share, sign: ImageOps.equalize(image),
    "invert": lambda image, share, sign: ImageOps.invert(image),
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "color": _enhanced(ImageEnhance.Color),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "shear_x": lambda image, share, sign: _affine(image, (1, sign * 0.3 * share, 0, 0, 1, 0)),
    "shear_y": lambda image, share, sign: _affine(image, (1, 0, 0, sign * 0.3 * share, 1, 0)),
    "translate_x": _translated(0),
    "translate_y": _translated(1),
}
