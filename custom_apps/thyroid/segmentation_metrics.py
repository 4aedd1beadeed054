"""How well nodules are outlined: of all pixels of a data set together, and image by image, by three definitions.

==================== ==================================================================================================
pooled               areas of all images are added up first (mmsegmentation; the UPerNet results of Deblurring MAE)
per image            mean over images, at their own resolution; the 95th percentile of distances between outlines
published per image  mean over images as the U-Net results of Deblurring MAE were computed, on masks of 256×256
==================== ==================================================================================================

Results of different definitions cannot be compared with each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from custom_apps.common.gathering import each_once
from custom_apps.common.statistics import RESAMPLES, SEED, Estimate, bootstrap_mean, bootstrap_statistic, ratio

NODULE, IGNORED = 1, 255
PERCENTILE = 95.0
POOLED = ("iou", "dice", "accuracy", "precision")
PER_IMAGE = ("iou", "dice", "hd95_pixels")
KINDS = {
    "pooled": "pixels of all images together",
    "per_image": "mean over images, original size",
    "published_per_image": "mean over images, 256×256, as published for the U-Nets",
}
TITLES = {
    "iou": "nodule IoU",
    "dice": "nodule Dice",
    "accuracy": "nodule accuracy (recall)",
    "precision": "nodule precision",
    "overall_accuracy": "pixel accuracy",
    "hd95_pixels": "HD95, pixels",
}


def area_counts(
    prediction: np.ndarray, label: np.ndarray, num_classes: int = 2, ignore_index: int = IGNORED
) -> np.ndarray:
    """Pixels of each class in both, in the prediction, and in the label: int64 (classes, 3).

    Args:
        prediction: class of each pixel (H, W).
        label: the same of the truth.
        num_classes: with the background.
        ignore_index: value of pixels in ``label`` that count nowhere.

    Raises:
        ValueError: shapes differ, or a class that does not exist.
    """
    if prediction.shape != label.shape:
        raise ValueError(f"prediction {prediction.shape} and label {label.shape} differ in shape")
    counted = label != ignore_index
    predicted, truth = prediction[counted].astype(np.int64), label[counted].astype(np.int64)
    for name, values in (("prediction", predicted), ("label", truth)):
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(f"{name} holds {values.min()} to {values.max()}, classes are 0 to {num_classes - 1}")
    parts = (predicted[predicted == truth], predicted, truth)
    return np.stack([np.bincount(part, minlength=num_classes) for part in parts], axis=1)


def area_scores(areas: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of each class from its areas.

    Args:
        areas: pixels in both, in the prediction, and in the label (…, classes, 3).

    Returns:
        ``iou``, ``dice``, ``accuracy`` (share of the class's pixels that are found, also called recall) and
        ``precision``, float64 (…, classes) each, and ``overall_accuracy`` (…); NaN where nothing was to be counted.
    """
    both, predicted, truth = np.moveaxis(np.asarray(areas), -1, 0)
    return {
        "iou": ratio(both, predicted + truth - both),
        "dice": ratio(2 * both, predicted + truth),
        "accuracy": ratio(both, truth),
        "precision": ratio(both, predicted),
        "overall_accuracy": ratio(both.sum(-1), truth.sum(-1)),
    }


def pooled_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of each class from the added areas of all images, see :func:`area_scores`.

    Args:
        counts: (images, classes, 3) as of :func:`area_counts`.

    Source: mmsegmentation's evaluation, there IoU, Dice (and F-score), Acc (and Recall), Precision, aAcc.
    """
    return area_scores(np.asarray(counts).sum(axis=0))


def image_scores(prediction: np.ndarray, label: np.ndarray, ignore_index: int = IGNORED) -> dict[str, float]:
    """IoU, Dice and HD95 of the nodule in one image.

    Args:
        prediction: class of each pixel (H, W); 1 is the nodule.
        label: the same of the truth.
        ignore_index: value of pixels in ``label`` that count nowhere; they end no outline of their own.

    Returns:
        ``iou``, ``dice`` and ``hd95_pixels``, the larger of both directed 95th percentiles of the distances between
        outlines. All NaN without a nodule in either; ``hd95_pixels`` infinite with one in only one of them.
    """
    import torch
    from monai.metrics import compute_hausdorff_distance

    both, predicted, truth = area_counts(prediction, label, ignore_index=ignore_index)[NODULE].tolist()
    scores = {"iou": float(ratio(both, predicted + truth - both)), "dice": float(ratio(2 * both, predicted + truth))}
    if not predicted and not truth:
        return scores | {"hd95_pixels": math.nan}
    if not predicted or not truth:
        return scores | {"hd95_pixels": math.inf}
    masks = [(values == NODULE) & (label != ignore_index) for values in (prediction, label)]
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in masks]
    distance = compute_hausdorff_distance(*tensors, include_background=True, percentile=PERCENTILE)
    return scores | {"hd95_pixels": float(distance)}


def published_image_scores(prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """IoU, Dice and HD95 as the U-Net results of Deblurring MAE were computed.

    An overlap of no pixel counts as one pixel. Distances are from all pixels of a nodule, not from its outline, to the
    other nodule. An empty prediction gets the pixel in the corner.

    Args:
        prediction: nodule or not (H, W), bool or 0 and 1, in the published system 256×256.
        label: the same of the truth.

    Returns:
        ``iou``, ``dice``, ``hd95_pixels``; the last is NaN without a nodule in ``label``.

    Source: Deblurring MAE, Kang et al. 2023.
    """
    from scipy.ndimage import distance_transform_edt

    prediction, label = np.asarray(prediction).astype(bool), np.asarray(label).astype(bool)
    if prediction.shape != label.shape:
        raise ValueError(f"prediction {prediction.shape} and label {label.shape} differ in shape")
    hits, union = max(int((prediction & label).sum()), 1), int((prediction ^ label).sum())
    iou = hits / (hits + union)
    scores = {"iou": iou, "dice": 2 * iou / (1 + iou), "hd95_pixels": math.nan}
    if not label.any():
        return scores
    if not prediction.any():
        prediction = prediction.copy()
        prediction[0, 0] = True
    directed = (
        np.percentile(distance_transform_edt(~other)[own], PERCENTILE)
        for own, other in ((prediction, label), (label, prediction))
    )
    return scores | {"hd95_pixels": float(max(directed))}


def image_row(
    case: str, prediction: np.ndarray, label: np.ndarray, published: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """A row of :class:`SegmentationTable`.

    Args:
        case: name of the image.
        prediction: class of each pixel (H, W).
        label: the same of the truth; 255 counts nowhere.
        published: from :func:`published_image_scores`, where asked for.
    """
    counts = area_counts(prediction, label).tolist()
    row = {"case": case, "counts": counts, **image_scores(prediction, label)}
    return row | {f"published_{name}": value for name, value in (published or {}).items()}


class SegmentationTable:
    """What the masks of many images say.

    Args:
        rows: of each image what :func:`image_row` gives. An image that comes twice counts once.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]):
        self.rows = each_once([dict(row) for row in rows])
        self.counts = np.array([row["counts"] for row in self.rows], np.int64)

    @property
    def missed(self) -> int:
        """Images with a nodule, in which none was found."""
        return int(((self.counts[:, NODULE, 2] > 0) & (self.counts[:, NODULE, 1] == 0)).sum())

    @property
    def alarms(self) -> int:
        """Images without a nodule, in which one was found."""
        return int(((self.counts[:, NODULE, 2] == 0) & (self.counts[:, NODULE, 1] > 0)).sum())

    def pooled(self) -> dict[str, np.ndarray]:
        """See :func:`pooled_scores`."""
        return pooled_scores(self.counts)

    def values(self, name: str) -> np.ndarray:
        """A column of the rows, float64 (images,); infinite distances, which have no mean, are NaN."""
        values = np.array([row[name] for row in self.rows], np.float64)
        return np.where(np.isinf(values), np.nan, values)

    def estimates(
        self, level: float = 0.95, resamples: int = RESAMPLES, seed: int = SEED
    ) -> dict[str, dict[str, Estimate]]:
        """Scores of the nodule with bootstrap intervals over images.

        ``pooled`` (of IoU, Dice, accuracy, precision and overall accuracy), ``per_image`` and, where the rows have
        them, ``published_per_image`` (of IoU, Dice and HD95). Images without a nodule in prediction and label have no
        score of their own; those with one in only one of both have no HD95: see :attr:`missed` and :attr:`alarms`.
        """
        options = {"level": level, "resamples": resamples, "seed": seed}
        columns = self.counts.reshape(len(self.counts), -1).T

        def pooled(name: str) -> Estimate:
            def statistic(*parts: np.ndarray, axis: int = -1) -> np.ndarray:
                sums = np.stack([part.sum(axis) for part in parts], axis=-1)
                values = area_scores(sums.reshape(*sums.shape[:-1], *self.counts.shape[1:]))[name]
                return values if name == "overall_accuracy" else values[..., NODULE]

            return bootstrap_statistic(statistic, *columns, vectorized=True, **options)

        prefixes = {"per_image": ""} | ({"published_per_image": "published_"} if self._published() else {})
        return {"pooled": {name: pooled(name) for name in (*POOLED, "overall_accuracy")}} | {
            kind: {name: bootstrap_mean(self.values(prefix + name), **options) for name in PER_IMAGE}
            for kind, prefix in prefixes.items()
        }

    def _published(self) -> bool:
        return bool(self.rows) and all("published_iou" in row for row in self.rows)
