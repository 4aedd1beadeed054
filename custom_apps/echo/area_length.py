"""Size of the left ventricle from its outline in one plane: area, long axis, volume."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

DISKS = 20
METHODS = ("area_length", "disks")


@dataclass(frozen=True)
class Ventricle:
    """What one mask says about the ventricle; lengths are in pixels unless the mask's pixels were given a size.

    Attributes:
        area: of the mask.
        long_axis: its extent along its principal axis, which in an apical view runs from apex to mitral valve.
        widths: mean width of each of the disks that divide the long axis.
    """

    area: float
    long_axis: float
    widths: tuple[float, ...]

    def volume(self, method: str = "area_length") -> float:
        """Volume, on the assumption that what one plane shows is as deep as it is wide.

        Args:
            method: ``area_length``, 8 A² / (3 π L); or ``disks``, the sum of round disks of the widths (Simpson's rule
                in a single plane, which EchoNet-Dynamic's reported volumes follow).
        """
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        if not self.area:
            return 0.0
        if method == "area_length":
            return 8 * self.area**2 / (3 * math.pi * self.long_axis)
        return math.pi / 4 * float(np.square(self.widths).sum()) * self.long_axis / len(self.widths)


def measure_ventricle(mask: np.ndarray, pixel_size: float = 1.0, disks: int = DISKS) -> Ventricle:
    """Area, long axis and widths of a mask.

    Args:
        mask: 2-D, true inside of the ventricle.
        pixel_size: edge of a square pixel, for example in centimeters.
        disks: number of parts of the long axis.

    Returns:
        Zeros for an empty mask.
    """
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return Ventricle(0.0, 0.0, (0.0,) * disks)
    points = np.stack([rows, columns], 1).astype(np.float64)
    centered = points - points.mean(0)
    # A pixel is a square of variance 1/12 in each direction, which also gives a single pixel an axis.
    _, directions = np.linalg.eigh(centered.T @ centered / len(points) + np.eye(2) / 12)
    axis = directions[:, -1]
    place = centered @ axis
    # Pixels have an extent of their own: the projection of a unit square on the axis.
    margin = np.abs(axis).sum() / 2
    begin, end = place.min() - margin, place.max() + margin
    length = end - begin
    # Each pixel's area is spread over its extent along the axis, so that the widths do not depend on the raster.
    edges = np.linspace(begin, end, disks + 1)
    covered = np.clip((edges[:, None] - (place - margin)) / (2 * margin), 0, 1).sum(1)
    widths = np.diff(covered) / (length / disks)
    return Ventricle(len(points) * pixel_size**2, length * pixel_size, tuple((widths * pixel_size).tolist()))


def ejection_fraction_percent(diastolic_volume: float, systolic_volume: float) -> float:
    """Share of the diastolic volume that is ejected, percent; NaN without a diastolic volume."""
    return 100 * (1 - systolic_volume / diastolic_volume) if diastolic_volume > 0 else math.nan
