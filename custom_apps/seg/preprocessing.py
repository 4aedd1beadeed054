"""From a case as read to the arrays a network sees: transpose, crop, normalize, resample."""

from __future__ import annotations

from typing import Any

import numpy as np

from custom_apps.seg.configuration import Configuration
from custom_apps.seg.cropping import crop_to_nonzero
from custom_apps.seg.normalization import normalize
from custom_apps.seg.plans import Plans
from custom_apps.seg.resampling import resample_image, resample_segmentation, shape_at_spacing


def target_spacing(spacing: list[float], configuration: Configuration) -> list[float]:
    """Spacing in mm of prepared arrays, given a case's own in transposed order; in 2D the first axis keeps it."""
    planned = [float(value) for value in configuration.spacing]
    return [*spacing[: len(spacing) - len(planned)], *planned]


def preprocess_case(
    image: np.ndarray,
    seg: np.ndarray | None,
    properties: dict[str, Any],
    plans: Plans,
    configuration: Configuration,
) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any]]:
    """Prepares one case (nnU-Net, Isensee et al. 2021).

    Args:
        image: (C, z, y, x) as read.
        seg: label map (1, z, y, x) as read, or None at inference.
        properties: as read; only ``spacing`` is used.
        plans: transposition and intensity statistics.
        configuration: normalization, spacing and resampling.

    Returns:
        The image, float32 (C, z, y, x) with axes transposed; the label map, int8 (int16 for labels above 127), -1
        outside the non-zero region, or None; and the properties with what undoes it all, in transposed axis order:
        ``shape_before_cropping``, ``bbox_used_for_cropping``, ``shape_after_cropping_and_before_resampling``,
        ``shape_after_resampling``, ``spacing_before_resampling`` and ``spacing_after_resampling``.

    Raises:
        ValueError: when the number of channels is not the planned one, or a scheme cannot take the intensities.
    """
    if len(image) != len(configuration.normalization_schemes):
        planned = len(configuration.normalization_schemes)
        raise ValueError(f"image has {len(image)} channels, expected {planned} as planned")
    axes = [0, *(axis + 1 for axis in plans.transpose_forward)]
    image = image.transpose(axes)
    spacing = [float(properties["spacing"][axis]) for axis in plans.transpose_forward]
    shape_before_cropping = image.shape[1:]
    image, cropped_seg, box = crop_to_nonzero(image, None if seg is None else seg.transpose(axes))
    shape = image.shape[1:]
    normalized = _normalize_channels(image, cropped_seg[0] >= 0, plans, configuration)
    new_spacing = target_spacing(spacing, configuration)
    new_shape = shape_at_spacing(shape, spacing, new_spacing)
    normalized = resample_image(normalized, new_shape, spacing, new_spacing, configuration)
    resampled_seg = None
    if seg is not None:
        resampled_seg = resample_segmentation(cropped_seg, new_shape, spacing, new_spacing, configuration)
        resampled_seg = resampled_seg.astype(np.int8 if resampled_seg.max() <= 127 else np.int16)
    done = {
        "shape_before_cropping": list(shape_before_cropping),
        "bbox_used_for_cropping": box,
        "shape_after_cropping_and_before_resampling": list(shape),
        "shape_after_resampling": list(normalized.shape[1:]),
        "spacing_before_resampling": spacing,
        "spacing_after_resampling": new_spacing,
    }
    return np.ascontiguousarray(normalized, dtype=np.float32), resampled_seg, properties | done


def _normalize_channels(
    image: np.ndarray, inside: np.ndarray, plans: Plans, configuration: Configuration
) -> np.ndarray:
    """Normalizes each channel by its scheme."""
    statistics = plans.foreground_intensity_properties_per_channel
    return np.stack(
        [
            normalize(channel, scheme, inside if use_mask else None, statistics.get(str(number)))
            for number, (channel, scheme, use_mask) in enumerate(
                zip(image, configuration.normalization_schemes, configuration.use_mask_for_norm, strict=True)
            )
        ]
    )
