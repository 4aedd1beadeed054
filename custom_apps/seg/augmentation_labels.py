"""Augmentation steps that look at the labels: mirroring with left and right exchanged, and masking outside."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.transforms import MapTransform, RandomizableTransform

OUTSIDE = -1


def toothfairy3_left_right_pairs() -> list[tuple[int, int]]:
    """Labels of ToothFairy3, Task 1, that change places when a patient is mirrored.

    Alveolar canals, sinuses, incisive canals, upper teeth (11-18 and 19-26), lower teeth (27-34 and 35-42).
    Source: U-Mamba2, arXiv 2509.12069.
    """
    teeth = [(first + i, first + 8 + i) for first in (11, 27) for i in range(8)]
    return [(3, 4), (5, 6), (43, 44), *teeth]


class RandLeftRightFlipd(RandomizableTransform, MapTransform):
    """Flips each axis with probability 1/2 and exchanges paired labels when the left-right axis was flipped.

    Args:
        keys: image and label.
        pairs: labels that change places, e.g. ``[[1, 2]]``; labels without a partner stay, -1 too.
        left_right_axis: spatial axis from left to right, the last by default.
        axes: spatial axes that may be flipped, all when None.
        label_key: which of the keys is the label.

    Source: U-Mamba2, arXiv 2509.12069. Deviation: -1, outside the image, stays -1, where the published lookup table
    took its last entry for it.
    """

    def __init__(
        self,
        keys: Sequence[str],
        pairs: Sequence[Sequence[int]],
        left_right_axis: int = -1,
        axes: Sequence[int] | None = None,
        label_key: str = "label",
    ):
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob=1.0)
        self.partner = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
        if len(self.partner) != 2 * len(pairs):
            raise ValueError(f"a label is in two pairs or its own partner: {list(pairs)}")
        self.left_right_axis, self.axes, self.label_key = left_right_axis, axes, label_key

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Flips tensors (C, *S)."""
        result = dict(data)
        spatial = next(iter(result[key] for key in self.key_iterator(result))).ndim - 1
        axes = range(spatial) if self.axes is None else self.axes
        flipped = [axis + 1 for axis in axes if self.R.uniform() < 0.5]
        for key in self.key_iterator(result):
            result[key] = result[key].flip(flipped)
        if self.left_right_axis % spatial + 1 in flipped:
            result[self.label_key] = self._exchange(result[self.label_key])
        return result

    def _exchange(self, label: torch.Tensor) -> torch.Tensor:
        highest = max(int(label.max()), *self.partner) if self.partner else int(label.max())
        table = torch.arange(OUTSIDE, highest + 1, dtype=label.dtype)
        for old, new in self.partner.items():
            table[old - OUTSIDE] = new
        return table[(label - OUTSIDE).long()]


class MaskOutsided(MapTransform):
    """Sets chosen channels of the image to 0 where the label is negative, that is outside the non-zero region.

    Args:
        keys: images (C, *S).
        channels: those whose normalisation took place within the mask.
        label_key: label (1, *S).
    """

    def __init__(self, keys: Sequence[str], channels: Sequence[int], label_key: str = "label"):
        super().__init__(keys)
        self.channels, self.label_key = list(channels), label_key

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Returns the dictionary with masked copies."""
        result = dict(data)
        inside = result[self.label_key][0] >= 0
        for key in self.key_iterator(result):
            image = result[key].clone()
            image[self.channels] *= inside
            result[key] = image
        return result
