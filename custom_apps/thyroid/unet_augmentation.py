"""Augmentation of the U-Net route: one affine map for image and smaller mask, and changes of gray values."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from PIL import Image

from custom_apps.thyroid.blur import filtered
from custom_apps.thyroid.clahe import equalize_locally
from custom_apps.thyroid.image_resize import from_pillow, to_pillow
from custom_apps.thyroid.photometric_distortion import linear


class RandShiftScaled(MapTransform, Randomizable):
    """Moves and scales image and mask by one draw; 0 outside. Their sizes may differ: shifts are shares of them.

    Args:
        keys: uint8 (C, H, W).
        shift: largest share of width and of height to move by.
        scale: factor uniform in 1 ± this.
        label_key: which of the keys is a mask, to be taken to the nearest neighbor; images are bilinear.
        allow_missing_keys: as in MONAI.

    Source: U-Net route of Deblurring MAE, Kang et al. 2023.
    """

    def __init__(
        self,
        keys: KeysCollection = ("image", "label"),
        shift: float = 0.1,
        scale: float = 0.5,
        label_key: str = "label",
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.shift, self.scale, self.label_key = shift, scale, label_key

    def randomize(self, data: Any = None) -> tuple[float, np.ndarray]:
        """Draws the factor, and the shares to move by along x and y."""
        return self.R.uniform(1 - self.scale, 1 + self.scale), self.R.uniform(-self.shift, self.shift, size=2)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shapes."""
        result = dict(data)
        factor, shares = self.randomize()
        for key in self.key_iterator(result):
            image = to_pillow(result[key])
            nearest = key == self.label_key
            # Pillow asks where a pixel of the result comes from; the middle of the image stays where it is.
            offsets = [
                side / 2 - (side / 2 + share * side) / factor for side, share in zip(image.size, shares, strict=True)
            ]
            matrix = (1 / factor, 0, offsets[0], 0, 1 / factor, offsets[1])
            resampling = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
            result[key] = from_pillow(image.transform(image.size, Image.Transform.AFFINE, matrix, resampling))
        return result


class RandGrayd(MapTransform, Randomizable):
    """Changes gray values in three steps, each with probability 0.5.

    1. Local equalization (CLAHE, clip limit 1 to 4, 8×8 tiles), or brightness ±20 % of white, or gamma 0.8 to 1.2.
    2. Sharpening, or a box blur of 3×3, or motion blur within 3×3.
    3. Contrast: factor of all values 1 ± 0.2.

    Args:
        keys: uint8 (C, H, W).
        prob: probability of each step.

    Source: U-Net route of Deblurring MAE, Kang et al. 2023.
    """

    def __init__(self, keys: KeysCollection = "image", prob: float = 0.5):
        super().__init__(keys)
        self.prob = prob

    def randomize(self, data: Any = None) -> list[tuple[str, Any]]:
        """Draws names and parameters of the steps."""
        tone = {
            "equalize": self.R.uniform(1, 4),
            "brightness": self.R.uniform(-0.2, 0.2),
            "gamma": self.R.uniform(0.8, 1.2),
        }
        detail = {
            "sharpen": (self.R.uniform(0.2, 0.5), self.R.uniform(0.5, 1)),
            "box": None,
            "motion": self.R.randint(len(LINES)),
        }
        contrast = {"contrast": self.R.uniform(0.8, 1.2)}
        steps = []
        for choices in (tone, detail, contrast):
            name = list(choices)[self.R.randint(len(choices))]
            if self.R.uniform() < self.prob:
                steps.append((name, choices[name]))
        return steps

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shapes."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = np.asarray(result[key])
            for name, value in self.randomize():
                image = changed(image, name, value)
            result[key] = image
        return result


def changed(image: np.ndarray, name: str, value: Any) -> np.ndarray:
    """One step of :class:`RandGrayd` on uint8 (C, H, W)."""
    if name == "equalize":
        return np.stack([equalize_locally(channel, value) for channel in image])
    if name == "brightness":
        return linear(image, 1, 255 * value)
    if name == "contrast":
        return linear(image, value, 0)
    if name == "gamma":
        table = np.rint(255 * (np.arange(256) / 255) ** value).astype(np.uint8)
        return table[image]
    if name == "sharpen":
        return filtered(image, sharpening(*value))
    return filtered(image, np.full((3, 3), 1 / 9) if name == "box" else LINES[value])


def sharpening(alpha: float, lightness: float) -> np.ndarray:
    """Kernel (3, 3): the image with a share ``alpha`` of its edges, which also make it lighter."""
    edges = np.full((3, 3), -1.0)
    edges[1, 1] = 8 + lightness
    kernel = alpha * edges
    kernel[1, 1] += 1 - alpha
    return kernel


def _lines() -> Sequence[np.ndarray]:
    """Straight lines of three pixels in a kernel (3, 3)."""
    diagonal, row = np.eye(3) / 3, np.zeros((3, 3))
    row[1] = 1 / 3
    return row, row.T, diagonal, diagonal[::-1]


LINES = _lines()
