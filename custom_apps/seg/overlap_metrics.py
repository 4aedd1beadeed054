"""Voxel counts of two masks and the overlaps computed from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

EmptyConvention = Literal["challenge", "nnunet"]
"""Score of a structure in neither mask: 1 (``challenge``, the U-Mamba scripts) or NaN, outside means (``nnunet``)."""


def value_of_absence(convention: EmptyConvention) -> float:
    """Dice, IoU or surface Dice of a structure that is in neither mask.

    Raises:
        ValueError: for another name.
    """
    if convention not in get_args(EmptyConvention):
        raise ValueError(f"convention must be one of {get_args(EmptyConvention)}, got {convention!r}")
    return 1.0 if convention == "challenge" else math.nan


@dataclass(frozen=True)
class OverlapCounts:
    """Voxels of a predicted and a reference mask.

    Attributes:
        tp: in both.
        fp: in the prediction only.
        fn: in the reference only.
        tn: in neither.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @classmethod
    def of(cls, prediction: np.ndarray, reference: np.ndarray, valid: np.ndarray | None = None) -> OverlapCounts:
        """Counts of two boolean masks of one shape, within ``valid`` when it is given.

        Raises:
            ValueError: if the shapes differ.
        """
        if prediction.shape != reference.shape:
            raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} differ in shape")
        if valid is not None:
            prediction, reference = prediction & valid, reference & valid
        size = reference.size if valid is None else np.count_nonzero(valid)
        tp = np.count_nonzero(prediction & reference)
        n_pred, n_ref = np.count_nonzero(prediction), np.count_nonzero(reference)
        return cls(*(int(count) for count in (tp, n_pred - tp, n_ref - tp, size - n_pred - n_ref + tp)))

    @property
    def n_pred(self) -> int:
        """Voxels of the prediction."""
        return self.tp + self.fp

    @property
    def n_ref(self) -> int:
        """Voxels of the reference."""
        return self.tp + self.fn

    def dice(self, convention: EmptyConvention) -> float:
        """Dice similarity 2|A∩B| / (|A| + |B|)."""
        return _ratio(2 * self.tp, self.n_pred + self.n_ref, convention)

    def iou(self, convention: EmptyConvention) -> float:
        """Intersection over union, the Jaccard index."""
        return _ratio(self.tp, self.tp + self.fp + self.fn, convention)


def _ratio(part: int, whole: int, convention: EmptyConvention) -> float:
    return part / whole if whole else value_of_absence(convention)


def reference_extent(reference: np.ndarray, axis: int, drop_last: bool = False) -> slice:
    """Slices along ``axis`` from the first to the last that the reference labels.

    For long tubes (aorta, vena cava, oesophagus) whose annotation stops somewhere, U-Mamba's scripts score these
    slices only.

    Args:
        reference: boolean mask with at least one voxel.
        axis: the axis across the tube's slices.
        drop_last: leave out the last labelled slice, as those scripts do by an off-by-one, for comparison with
            published numbers; a single labelled slice is kept.

    Raises:
        ValueError: for an empty mask.
    """
    labelled = np.flatnonzero(
        reference.any(axis=tuple(other for other in range(reference.ndim) if other != axis % reference.ndim))
    )
    if not len(labelled):
        raise ValueError("an empty reference has no extent")
    first, last = int(labelled[0]), int(labelled[-1])
    return slice(first, max(last, first + 1) if drop_last else last + 1)
