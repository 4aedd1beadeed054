"""Distances between the surfaces of two masks: surface Dice, Hausdorff and average distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from scipy.ndimage import distance_transform_edt


@dataclass(frozen=True)
class SurfaceDistances:
    """Distance of every surface element of two masks to the other mask's surface, with its area.

    Attributes:
        reference_mm: distance of each element of the reference surface to the predicted one; infinite when that is
            empty.
        reference_area: area of each, mm² (length in mm for 2-D masks).
        prediction_mm: distance of each element of the predicted surface to the reference one.
        prediction_area: area of each.
    """

    reference_mm: np.ndarray
    reference_area: np.ndarray
    prediction_mm: np.ndarray
    prediction_area: np.ndarray

    def normalized_surface_dice(self, tolerance_mm: float) -> float:
        """Area of both surfaces within the tolerance of the other one, over their area; NaN when both are empty."""
        near = self._area_within(tolerance_mm)
        return _ratio(sum(near), self.reference_area.sum() + self.prediction_area.sum())

    def overlaps(self, tolerance_mm: float) -> tuple[float, float]:
        """Share of the reference and of the predicted surface within the tolerance of the other; NaN when empty."""
        reference, prediction = self._area_within(tolerance_mm)
        return _ratio(reference, self.reference_area.sum()), _ratio(prediction, self.prediction_area.sum())

    def robust_hausdorff_mm(self, percentile: float = 95.0) -> float:
        """Larger of the two directed distances that ``percentile`` % of the area do not exceed.

        100 gives the Hausdorff distance. NaN when both surfaces are empty, infinite when one is.
        """
        if not len(self.reference_mm) and not len(self.prediction_mm):
            return math.nan
        if not len(self.reference_mm) or not len(self.prediction_mm):
            return math.inf
        return max(
            _weighted_percentile(self.reference_mm, self.reference_area, percentile),
            _weighted_percentile(self.prediction_mm, self.prediction_area, percentile),
        )

    def average_mm(self) -> tuple[float, float]:
        """Area-weighted mean distance reference to prediction, and prediction to reference.

        NaN for a direction that starts at an empty surface, infinite for one that ends at an empty surface.
        """
        reference = _ratio((self.reference_mm * self.reference_area).sum(), self.reference_area.sum())
        prediction = _ratio((self.prediction_mm * self.prediction_area).sum(), self.prediction_area.sum())
        return reference, prediction

    def symmetric_average_mm(self) -> float:
        """Average surface distance: mean over both surfaces by area; NaN when both are empty, infinite when one is."""
        moment = (self.reference_mm * self.reference_area).sum() + (self.prediction_mm * self.prediction_area).sum()
        return _ratio(moment, self.reference_area.sum() + self.prediction_area.sum())

    def _area_within(self, tolerance_mm: float) -> tuple[float, float]:
        return (
            self.reference_area[self.reference_mm <= tolerance_mm].sum(),
            self.prediction_area[self.prediction_mm <= tolerance_mm].sum(),
        )


def surface_distances(prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Surface elements of two masks and their distances.

    Surfaces are found by the 2x2x2 neighbour codes of Nikolov et al. 2018 (arXiv:1809.04430), in 2-D by 2x2 codes;
    the areas of the codes are MONAI's table, evaluated in float64. Distances are between the centres of the
    neighbourhoods.

    Args:
        prediction: boolean mask, 2-D or 3-D.
        reference: boolean mask of the same shape.
        spacing_mm: voxel edge per axis.

    Raises:
        ValueError: if shapes or the number of spacings differ, or the masks are not 2-D or 3-D.
    """
    spacing = tuple(float(edge) for edge in spacing_mm)
    if prediction.shape != reference.shape or len(spacing) != reference.ndim or reference.ndim not in (2, 3):
        raise ValueError(
            "expected two masks of one 2-D or 3-D shape and a spacing per axis, "
            f"got {prediction.shape}, {reference.shape}, {spacing}"
        )
    areas = _areas(spacing)
    frame = _bounding_box(prediction | reference)
    codes = [_neighbour_codes(mask[frame]) for mask in (reference, prediction)]
    surfaces = [(code > 0) & (code < len(areas) - 1) for code in codes]
    to_prediction, to_reference = _distance_to(surfaces[1], spacing), _distance_to(surfaces[0], spacing)
    return SurfaceDistances(
        reference_mm=to_prediction[surfaces[0]],
        reference_area=areas[codes[0][surfaces[0]]],
        prediction_mm=to_reference[surfaces[1]],
        prediction_area=areas[codes[1][surfaces[1]]],
    )


@lru_cache(maxsize=64)
def _areas(spacing: tuple[float, ...]) -> np.ndarray:
    """Area in mm² (2-D: length in mm) of the surface element of each neighbour code, float64."""
    from monai.metrics import utils as tables

    if len(spacing) == 2:
        return tables.create_table_neighbour_code_to_contour_length(spacing)[0].numpy()
    # The public 3-D table is float32 and would cost seven digits; the normals behind it are exact multiples of 1/8.
    normals = tables._get_neighbour_code_to_normals_table().double().numpy()
    faces = np.prod(spacing) / np.array(spacing)
    return np.linalg.norm(normals * faces, axis=-1).sum(-1)


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest box that holds the mask; an empty box for an empty mask."""
    box = []
    for axis in range(mask.ndim):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(filled[0], filled[-1] + 1) if len(filled) else slice(0, 0))
    return tuple(box)


def _neighbour_codes(mask: np.ndarray) -> np.ndarray:
    """Code of each neighbourhood of two voxels per axis; the first neighbour gives the highest bit."""
    padded = np.pad(mask, 1)
    shape = tuple(edge + 1 for edge in mask.shape)
    codes = np.zeros(shape, np.uint8)
    for offset in product((0, 1), repeat=mask.ndim):
        codes <<= 1
        codes |= padded[tuple(slice(start, start + edge) for start, edge in zip(offset, shape, strict=True))]
    return codes


def _distance_to(surface: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Distance in mm of every neighbourhood to the nearest one on the surface; infinite when there is none."""
    if not surface.any():
        return np.full(surface.shape, math.inf)
    return distance_transform_edt(~surface, sampling=spacing)


def _weighted_percentile(distances: np.ndarray, areas: np.ndarray, percentile: float) -> float:
    order = np.argsort(distances, kind="stable")
    share = np.cumsum(areas[order]) / areas.sum()
    place = min(int(np.searchsorted(share, percentile / 100)), len(order) - 1)
    return float(distances[order[place]])


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else math.nan
