"""Resampling of images, label maps and logits to another shape, as a configuration prescribes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import zoom

from custom_apps.seg.configuration import Configuration

if TYPE_CHECKING:
    import torch

ANISOTROPY_THRESHOLD = 3


def shape_at_spacing(shape: Sequence[int], spacing: Sequence[float], new_spacing: Sequence[float]) -> tuple[int, ...]:
    """Shape of a volume at another spacing, rounded half to even, at least one voxel."""
    return tuple(max(1, round(old / new * n)) for old, new, n in zip(spacing, new_spacing, shape, strict=True))


def separate_axis(
    spacing: Sequence[float],
    new_spacing: Sequence[float],
    force: bool | None = None,
    threshold: float = ANISOTROPY_THRESHOLD,
) -> int | None:
    """The axis that is resampled apart from the others, because its voxels are so much longer.

    Args:
        spacing: current spacing.
        new_spacing: target spacing; decides when the current one is not anisotropic.
        force: True or False instead of the rule.
        threshold: ratio of largest to smallest spacing above which an axis is apart.

    Returns:
        The axis with the largest spacing; None when no axis is apart or several tie for it.
    """
    if force is None:
        candidates = [values for values in (spacing, new_spacing) if max(values) / min(values) > threshold]
        if not candidates:
            return None
        spacing = candidates[0]
    elif not force:
        return None
    longest = np.flatnonzero(max(spacing) / np.asarray(spacing, dtype=float) == 1)
    return int(longest[0]) if len(longest) == 1 else None


def resample(
    array: np.ndarray,
    new_shape: Sequence[int],
    spacing: Sequence[float],
    new_spacing: Sequence[float],
    is_seg: bool = False,
    order: int = 3,
    order_z: int = 0,
    force_separate_z: bool | None = None,
) -> np.ndarray:
    """Spline resampling; where voxels are anisotropic, in-plane and along the coarse axis apart.

    Source: nnU-Net, Isensee et al. 2021.

    Args:
        array: (C, z, y, x); for label maps integer, -1 counting as a label.
        new_shape: (z, y, x).
        spacing: of ``array`` in mm, same axes.
        new_spacing: of the result.
        is_seg: interpolate each label's mask and give a voxel the label with the largest share; in a tie the label of
            the nearest voxel. (First releases of nnU-Net v2 gave it the last label with a share of at least one half,
            which favors high labels and loses voxels where three meet.)
        order: of the spline.
        order_z: along an axis that is apart; 0 is nearest neighbour, the only one that label maps and plans use.
        force_separate_z: see ``separate_axis``.

    Returns:
        (C, *new_shape): float32, or the type of the label map.

    Raises:
        ValueError: for ``order_z`` other than 0 where an axis is apart.
    """
    new_shape = tuple(int(n) for n in new_shape)
    if array.shape[1:] == new_shape:
        return array if is_seg else array.astype(np.float32, copy=False)
    axis = separate_axis(spacing, new_spacing, force_separate_z)
    if axis is not None and order_z != 0:
        raise ValueError(f"order_z is {order_z}, expected 0 for an axis that is resampled apart")
    channel = _resize_labels if is_seg else _resize
    result = np.empty((len(array), *new_shape), dtype=array.dtype if is_seg else np.float32)
    for index, volume in enumerate(array):
        if axis is None:
            result[index] = channel(volume, new_shape, order)
            continue
        slice_shape = tuple(n for other, n in enumerate(new_shape) if other != axis)
        slices = np.stack([channel(part, slice_shape, order) for part in np.moveaxis(volume, axis, 0)], axis)
        result[index] = np.take(slices, nearest_positions(volume.shape[axis], new_shape[axis]), axis)
    return result


def nearest_positions(length: int, new_length: int) -> np.ndarray:
    """Nearest source index of each new one: ``length / new_length * (i + 0.5) - 0.5``, ties upward."""
    positions = length / new_length * (np.arange(new_length) + 0.5) - 0.5
    return np.clip(np.floor(positions + 0.5).astype(int), 0, length - 1)


def _resize(values: np.ndarray, new_shape: tuple[int, ...], order: int) -> np.ndarray:
    """Spline with edge padding, voxel centres aligned by half voxels, kept within the range of the input."""
    if values.shape == new_shape:
        return values
    values = values.astype(np.float64, copy=False)
    factors = [new / old for new, old in zip(new_shape, values.shape, strict=True)]
    result = zoom(values, factors, order=order, mode="nearest", grid_mode=True)
    return np.clip(result, values.min(), values.max(), out=result) if order > 1 else result


def _resize_labels(values: np.ndarray, new_shape: tuple[int, ...], order: int) -> np.ndarray:
    """The label with the largest resized mask; in a tie the nearest voxel's if it takes part, else the smallest."""
    if values.shape == new_shape:
        return values
    nearest = _resize(values, new_shape, 0).astype(values.dtype)
    if order == 0:
        return nearest
    result, best, share_of_nearest = nearest.copy(), np.full(new_shape, -np.inf), np.empty(new_shape)
    for label in np.unique(values):
        share = _resize(values == label, new_shape, order)
        result[share > best] = label
        np.maximum(best, share, out=best)
        np.copyto(share_of_nearest, share, where=nearest == label)
    return np.where(share_of_nearest == best, nearest, result)


def _resample_with(
    name: str, arguments: dict[str, Any], array: np.ndarray, new_shape: Sequence[int], *spacings: Sequence[float]
) -> np.ndarray:
    """Runs the resampling rule of nnU-Net's name."""
    if name == "resample_data_or_seg_to_shape":
        return resample(array, new_shape, *spacings, **arguments)
    if name == "resample_torch_fornnunet":
        from custom_apps.seg.torch_resampling import resample_linearly

        return resample_linearly(array, new_shape, *spacings, **arguments)
    if name == "no_resampling_data_or_seg_to_shape":
        return array
    known = "resample_data_or_seg_to_shape, resample_torch_fornnunet or no_resampling_data_or_seg_to_shape"
    raise ValueError(f"unknown resampling rule '{name}', expected {known}")


def resample_image(
    image: np.ndarray,
    new_shape: Sequence[int],
    current_spacing: Sequence[float],
    new_spacing: Sequence[float],
    configuration: Configuration,
) -> np.ndarray:
    """Resamples an image (C, z, y, x) by the configuration's rule for data, float32."""
    rule, arguments = configuration.resampling_fn_data, configuration.resampling_fn_data_kwargs
    return _resample_with(rule, arguments, image, new_shape, current_spacing, new_spacing)


def resample_segmentation(
    seg: np.ndarray,
    new_shape: Sequence[int],
    current_spacing: Sequence[float],
    new_spacing: Sequence[float],
    configuration: Configuration,
) -> np.ndarray:
    """Resamples a label map (1, z, y, x) by the configuration's rule for label maps."""
    rule, arguments = configuration.resampling_fn_seg, configuration.resampling_fn_seg_kwargs
    return _resample_with(rule, arguments, seg, new_shape, current_spacing, new_spacing)


def resample_logits(
    logits: np.ndarray | torch.Tensor,
    new_shape: Sequence[int],
    current_spacing: Sequence[float],
    new_spacing: Sequence[float],
    configuration: Configuration,
) -> np.ndarray:
    """Resamples logits or probabilities (heads, z, y, x) by the configuration's rule for them.

    Args:
        logits: array or tensor (a tensor is taken to the CPU).
        new_shape: (z, y, x).
        current_spacing: of the logits in mm, transposed axis order.
        new_spacing: of the result.
        configuration: where the rule comes from.

    Returns:
        float32 array (heads, *new_shape).
    """
    if not isinstance(logits, np.ndarray):
        logits = logits.detach().float().cpu().numpy()
    rule, arguments = configuration.resampling_fn_probabilities, configuration.resampling_fn_probabilities_kwargs
    return _resample_with(rule, arguments, logits, new_shape, current_spacing, new_spacing)
