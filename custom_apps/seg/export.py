"""From logits in the prepared frame back to a label map of the original image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from custom_apps.common.errors import DataError
from custom_apps.seg.model_folder import ModelFolder
from custom_apps.seg.resampling import nearest_positions, resample_logits


def restore_segmentation(
    logits: torch.Tensor,
    properties: dict[str, Any],
    model: ModelFolder,
    case: str = "case",
    decide_first: bool = False,
) -> np.ndarray:
    """Label map of the original image: logits resampled, decided, pasted into the uncropped frame, axes put back.

    Logits are resampled before the decision, and voxels outside the crop are background (nnU-Net, Isensee et al. 2021).
    Whether an axis is resampled apart is decided in transposed axis order, like everything else (nnU-Net 2.1 used the
    untransposed spacing there).

    Args:
        logits: shape (heads, z, y, x) in the prepared frame.
        properties: as ``preprocess_case`` leaves them.
        model: plan and labels.
        case: named in errors.
        decide_first: decide in the prepared frame and bring the label map to the image's spacing by nearest neighbor:
            much less time and memory with many labels, and jagged borders where the spacing differs.

    Returns:
        Label map (z, y, x) as the image was read, int16.

    Raises:
        DataError: for NaN or infinite logits, naming the case.
        ValueError: if the logits have not the shape of the prepared image.
    """
    if decide_first:
        _check(logits, properties, model, case)
        decided = np.asarray(model.labels.logits_to_segmentation(logits).cpu())
        shape = properties["shape_after_cropping_and_before_resampling"]
        for axis, edge in enumerate(shape):
            decided = np.take(decided, nearest_positions(decided.shape[axis], edge), axis)
        return _to_original(decided, properties, model)
    return _to_original(_decided(logits, properties, model, case), properties, model)


def restore_probabilities(
    logits: torch.Tensor, properties: dict[str, Any], model: ModelFolder, case: str = "case"
) -> tuple[np.ndarray, np.ndarray]:
    """Label map as :func:`restore_segmentation` gives it, and the probabilities behind it.

    Returns:
        Label map (z, y, x), int16, and probabilities (heads, z, y, x), float32, of the original image. Outside the
        crop the background is certain; with regions every region has probability 0 there.
    """
    probabilities = model.labels.logits_to_probabilities(_resampled(logits, properties, model, case))
    segmentation = _to_original(model.labels.probabilities_to_segmentation(probabilities), properties, model)
    outside = np.zeros(len(probabilities), np.float32)
    if not model.labels.has_regions:
        outside[0] = 1
    heads = [_to_original(p, properties, model, o) for p, o in zip(probabilities, outside, strict=True)]
    return segmentation, np.stack(heads)


def restore_map(values: np.ndarray, properties: dict[str, Any], model: ModelFolder) -> np.ndarray:
    """A map (z, y, x) in the prepared frame on the grid of the original image, float32; 0 outside the crop.

    Args:
        values: real numbers, resampled as probabilities are.
        properties: as ``preprocess_case`` leaves them.
        model: the plan.
    """
    resampled = resample_logits(
        np.asarray(values, np.float32)[None],
        properties["shape_after_cropping_and_before_resampling"],
        properties["spacing_after_resampling"],
        properties["spacing_before_resampling"],
        model.configuration,
    )
    return _to_original(resampled[0], properties, model)


def _check(logits: torch.Tensor, properties: dict[str, Any], model: ModelFolder, case: str) -> None:
    if not torch.isfinite(logits).all():
        raise DataError(case, "the network gave NaN or infinite logits", "finite ones; try it without mixed precision")
    prepared = properties["shape_after_resampling"]
    if list(logits.shape) != [model.labels.num_segmentation_heads, *prepared]:
        raise ValueError(
            f"{case}: logits have shape {tuple(logits.shape)}, expected {model.labels.num_segmentation_heads} heads "
            f"of the prepared image's {tuple(prepared)}"
        )


def _decided(logits: torch.Tensor, properties: dict[str, Any], model: ModelFolder, case: str) -> np.ndarray:
    """Label map (z, y, x), int16, of the crop at the image's own spacing.

    Heads are resampled one after the other, so that the memory does not grow with their number; the result is that of
    all heads at once.
    """
    _check(logits, properties, model, case)
    labels = model.labels
    decided = largest = None
    for head, one in enumerate(logits.split(1)):
        values = torch.from_numpy(_at_original_spacing(one, properties, model)[0])
        if decided is None:
            decided = torch.zeros(values.shape, dtype=torch.int16)
        if labels.has_regions:
            decided[values.sigmoid() > 0.5] = labels.regions_class_order[head]
        elif largest is None:
            largest = values.clone()
        else:
            decided[values > largest] = head
            torch.maximum(largest, values, out=largest)
    return decided.numpy()


def _resampled(logits: torch.Tensor, properties: dict[str, Any], model: ModelFolder, case: str) -> np.ndarray:
    _check(logits, properties, model, case)
    return _at_original_spacing(logits, properties, model)


def _at_original_spacing(logits: torch.Tensor, properties: dict[str, Any], model: ModelFolder) -> np.ndarray:
    return resample_logits(
        logits,
        properties["shape_after_cropping_and_before_resampling"],
        properties["spacing_after_resampling"],
        properties["spacing_before_resampling"],
        model.configuration,
    )


def _to_original(
    values: np.ndarray | torch.Tensor, properties: dict[str, Any], model: ModelFolder, outside: float = 0
) -> np.ndarray:
    """Array (z, y, x) of the whole image from one of the crop."""
    values = np.asarray(values)
    whole = np.full(properties["shape_before_cropping"], outside, values.dtype)
    whole[_slices(properties["bbox_used_for_cropping"])] = values
    return np.ascontiguousarray(whole.transpose(model.plans.transpose_backward))


def _slices(box: Sequence[Sequence[int]]) -> tuple[slice, ...]:
    return tuple(slice(lower, upper) for lower, upper in box)
