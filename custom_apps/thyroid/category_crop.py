"""Random crops for segmentation that avoid one class alone, and padding of what is smaller."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from custom_apps.thyroid.image_resize import size_of
from custom_apps.thyroid.mask_file import IGNORED
from custom_apps.thyroid.rescale import padded

REDRAWS = 10


class RandCategoryCropd(MapTransform, Randomizable):
    """Cuts one random box out of image and mask, redrawn while one class fills nearly all of it.

    The box is drawn again up to ten times until it holds more than one class, none of them in ``limit`` of its pixels
    or more; the eleventh draw is taken as it is. Sides shorter than the box are kept whole.

    Args:
        keys: (C, H, W) of one size.
        size: edge of the box in pixels, or height and width.
        limit: share of one class from which on the box is drawn again; 1 or more takes the first draw.
        label_key: the mask, one of ``keys``; 255 in it is no class.

    Source: mmsegmentation's random crop, with the settings of Deblurring MAE.
    """

    def __init__(
        self,
        keys: KeysCollection = ("image", "label"),
        size: int | Sequence[int] = 512,
        limit: float = 0.75,
        label_key: str = "label",
    ):
        super().__init__(keys)
        self.size, self.limit, self.label_key = size_of(size), limit, label_key

    def randomize(self, data: np.ndarray) -> tuple[slice, slice]:
        """Draws rows and columns for a mask ``data`` (1, H, W)."""
        box = self._box(data.shape[-2:])
        for _ in range(REDRAWS if self.limit < 1 else 0):
            counts = np.bincount(np.asarray(data)[0][box].ravel(), minlength=IGNORED + 1)[:IGNORED]
            if np.count_nonzero(counts) > 1 and counts.max() / counts.sum() < self.limit:
                break
            box = self._box(data.shape[-2:])
        return box

    def _box(self, size: Sequence[int]) -> tuple[slice, slice]:
        starts = [self.R.randint(max(0, old - new) + 1) for new, old in zip(self.size, size, strict=True)]
        return tuple(slice(start, start + edge) for start, edge in zip(starts, self.size, strict=True))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """(C, H, W) to at most (C, *size)."""
        result = dict(data)
        rows, columns = self.randomize(result[self.label_key])
        for key in self.key_iterator(result):
            result[key] = result[key][:, rows, columns]
        return result


class PadToSized(MapTransform):
    """Fills up images with 0 and masks with 255, below and on the right.

    Args:
        keys: (C, H, W); images normalized already, as published.
        size: least edge in pixels, or height and width.
        label_key: which of the keys is a mask.
        allow_missing_keys: as in MONAI.
    """

    def __init__(
        self,
        keys: KeysCollection = ("image", "label"),
        size: int | Sequence[int] = 512,
        label_key: str = "label",
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.size, self.label_key = size_of(size), label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """At least ``size``."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = padded(result[key], self.size, IGNORED if key == self.label_key else 0)
        return result
