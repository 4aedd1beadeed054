"""Random shift of a clip and its masks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable


class PadAndCropd(MapTransform, Randomizable):
    """Pads the frames with zeros on all four sides and cuts the old size out at random, alike for all keys and frames.

    Offsets are uniform in {0, …, 2 · padding − 1}: shifts from −padding to padding − 1 pixels. On a normalized image
    zeros are its mean gray.

    Args:
        keys: the image and what must move with it.
        padding: pixels.
        allow_missing_keys: as in MONAI.

    Source: EchoNet-Dynamic, Ouyang et al. 2020. Deviation: E-ViM3 (arXiv 2503.20258) shifts the clip but not the masks
    that it is compared with; ``keys="image"`` repeats that. MONAI's ``RandSpatialCrop`` includes both ends and would
    also crop in time.
    """

    def __init__(self, keys: KeysCollection = ("image", "label"), padding: int = 12, allow_missing_keys: bool = True):
        super().__init__(keys, allow_missing_keys)
        if padding < 0:
            raise ValueError(f"padding must not be negative, got {padding}")
        self.padding = padding

    def randomize(self, data: Any = None) -> tuple[int, int]:
        """Offsets of rows and columns in the padded frame."""
        low, high = self.R.randint(2 * self.padding, size=2)
        return int(low), int(high)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shapes."""
        result = dict(data)
        if self.padding:
            rows, columns = self.randomize()
            for key in self.key_iterator(result):
                result[key] = shift(result[key], self.padding, rows, columns)
        return result


def shift(frames: torch.Tensor, padding: int, rows: int, columns: int) -> torch.Tensor:
    """The window at ``rows``, ``columns`` of (…, H, W) padded by ``padding`` zeros."""
    height, width = frames.shape[-2:]
    padded = F.pad(frames, (padding,) * 4)
    return padded[..., rows : rows + height, columns : columns + width].contiguous()
