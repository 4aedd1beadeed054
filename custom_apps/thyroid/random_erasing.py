"""Random erasing: a box of an image replaced by noise."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

TRIES = 10


class RandErased(RandomizableTransform, MapTransform):
    """Replaces a random box by noise, normally distributed in every pixel and channel.

    Args:
        keys: normalized images, float (C, H, W).
        prob: probability of it.
        area: range of the box's share of the image.
        ratio: range of height over width, drawn uniformly in its logarithm.

    When ten draws do not fit into the image, nothing is erased.

    Source: Zhong et al. 2020, arXiv 1708.04896, with the settings of Deblurring MAE.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        prob: float = 0.25,
        area: Sequence[float] = (0.02, 1 / 3),
        ratio: Sequence[float] = (0.3, 1 / 0.3),
    ):
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.area, self.ratio = tuple(area), tuple(ratio)

    def box(self, height: int, width: int) -> tuple[int, int, int, int] | None:
        """Draws top, left, height and width."""
        for _ in range(TRIES):
            wanted = height * width * self.R.uniform(*self.area)
            shape = math.exp(self.R.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            box_height, box_width = round(math.sqrt(wanted * shape)), round(math.sqrt(wanted / shape))
            if 0 < box_height < height and 0 < box_width < width:
                top, left = self.R.randint(height - box_height + 1), self.R.randint(width - box_width + 1)
                return top, left, box_height, box_width
        return None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shapes."""
        result = dict(data)
        for key in self.key_iterator(result):
            self.randomize(None)
            box = self.box(*result[key].shape[-2:]) if self._do_transform else None
            if box is None:
                continue
            top, left, height, width = box
            image = torch.as_tensor(result[key]).clone()
            noise = torch.from_numpy(self.R.normal(size=(len(image), height, width))).to(image)
            image[:, top : top + height, left : left + width] = noise
            result[key] = image
        return result
