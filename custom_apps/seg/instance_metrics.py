"""Instance segmentation of cells: instances from a semantic map, matching by overlap, precision, recall and F1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label as connected_components
from scipy.optimize import linear_sum_assignment

LARGE_IMAGE_PIXELS = 25_000_000
TILE_PIXELS = 2000


@dataclass(frozen=True)
class InstanceScore:
    """Instances found, invented and missed in one image.

    Attributes:
        tp: matched instances.
        fp: predicted instances without a match.
        fn: reference instances without a match.
    """

    tp: int
    fp: int
    fn: int

    def __add__(self, other: InstanceScore) -> InstanceScore:
        return InstanceScore(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float:
        """Matched share of the predicted instances; 0 without a match."""
        return self.tp / (self.tp + self.fp) if self.tp else 0.0

    @property
    def recall(self) -> float:
        """Matched share of the reference instances; 0 without a match."""
        return self.tp / (self.tp + self.fn) if self.tp else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 without a match."""
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn) if self.tp else 0.0


def instances_of(semantic: np.ndarray, label: int = 1) -> np.ndarray:
    """Numbered connected components of one label (diagonal neighbours connect), int32; 0 is background."""
    structure = np.ones((3,) * semantic.ndim)
    return connected_components(semantic == label, structure=structure, output=np.int32)[0]


def without_boundary_instances(instances: np.ndarray, width: int = 2) -> np.ndarray:
    """The instances that do not touch a border of ``width`` pixels, renumbered from 1 without gaps, int32."""
    inner = np.zeros(instances.shape, bool)
    inner[tuple(slice(width, max(edge - width, width)) for edge in instances.shape)] = True
    kept = np.setdiff1d(instances, np.append(instances[~inner], 0))
    position = np.searchsorted(kept, instances).clip(max=max(len(kept) - 1, 0))
    if not len(kept):
        return np.zeros(instances.shape, np.int32)
    return np.where(kept[position] == instances, position + 1, 0).astype(np.int32)


def match_instances(prediction: np.ndarray, reference: np.ndarray, iou_threshold: float = 0.5) -> InstanceScore:
    """Pairs instances one to one, as many as possible with an IoU of at least the threshold.

    Linear assignment with the cost of Stardist's matching (Schmidt et al. 2018), as in U-Mamba's cell evaluation. It
    deviates in counting every reference instance as missed when nothing was predicted (there: none), which changes no
    precision, recall or F1.

    Args:
        prediction: instance numbers, 0 background.
        reference: the same shape.
        iou_threshold: in (0, 1].
    """
    overlap = _overlap(prediction, reference)
    in_reference, in_prediction = overlap.sum(1, keepdims=True), overlap.sum(0, keepdims=True)
    iou = (overlap / (in_reference + in_prediction - overlap))[1:, 1:]
    if not iou.size:
        return InstanceScore(0, iou.shape[1], iou.shape[0])
    good = iou >= iou_threshold
    rows, columns = linear_sum_assignment(-good.astype(float) - iou / (2 * min(iou.shape)))
    tp = int(good[rows, columns].sum())
    return InstanceScore(tp, iou.shape[1] - tp, iou.shape[0] - tp)


def _overlap(prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Pixels of every pair of numbers, rows the reference, columns the prediction; the first of each is background."""
    ids = []
    for instances in (reference, prediction):
        present, number = np.unique(np.append(instances, 0), return_inverse=True)
        ids.append((len(present), number[:-1]))
    (rows, row), (columns, column) = ids
    return np.bincount(row * columns + column, minlength=rows * columns).reshape(rows, columns)


def score_instances(
    prediction: np.ndarray,
    reference: np.ndarray,
    iou_threshold: float = 0.5,
    count_boundary: bool = False,
    boundary_width: int = 2,
    large_image_pixels: int = LARGE_IMAGE_PIXELS,
    tile_pixels: int = TILE_PIXELS,
) -> InstanceScore:
    """Score of one image by the rules of the NeurIPS 2022 cell segmentation challenge, as U-Mamba uses them.

    Instances that touch the border of the image are left out on both sides. An image of ``large_image_pixels`` or
    more is scored in square tiles, each with its own border, and the counts are added.

    Args:
        prediction: instance numbers (H, W), 0 background.
        reference: the same shape.
        iou_threshold: overlap from which a pair counts as a match.
        count_boundary: score the instances at the border too.
        boundary_width: pixels of the border that an instance must not touch to be scored otherwise.
        large_image_pixels: size from which an image is scored in tiles.
        tile_pixels: edge of a tile; the image is padded with background to whole tiles.

    Raises:
        ValueError: if the shapes differ or are not 2-D.
    """
    if prediction.shape != reference.shape or reference.ndim != 2:
        raise ValueError(f"expected two images of one shape (H, W), got {prediction.shape} and {reference.shape}")
    total = InstanceScore(0, 0, 0)
    tiled = reference.size >= large_image_pixels
    for pair in _tiles(prediction, reference, tile_pixels) if tiled else [(prediction, reference)]:
        if not count_boundary:
            pair = tuple(without_boundary_instances(instances, boundary_width) for instances in pair)
        total += match_instances(*pair, iou_threshold)
    return total


def _tiles(prediction: np.ndarray, reference: np.ndarray, edge: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    missing = [(0, -size % edge) for size in reference.shape]
    pair = [np.pad(instances, missing) for instances in (prediction, reference)]
    for row in range(0, pair[0].shape[0], edge):
        for column in range(0, pair[0].shape[1], edge):
            yield tuple(instances[row : row + edge, column : column + edge] for instances in pair)
