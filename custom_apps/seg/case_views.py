"""Slices of a case worth looking at: image, reference and prediction in patient orientation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from custom_apps.seg.affine import affine_of
from custom_apps.seg.overlap_metrics import OverlapCounts
from custom_apps.seg.protocol import SegmentationProtocol

VIEW_NAMES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class Slice:
    """One slice.

    Attributes:
        title: name of the view and slice number.
        image: grey values in 0..1 (rows, columns), or colours (rows, columns, 3).
        reference: label map (rows, columns).
        prediction: label map (rows, columns).
        aspect: height of a pixel over its width.
        upwards: whether rows run upwards on the page.
    """

    title: str
    image: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    aspect: float
    upwards: bool


@dataclass(frozen=True)
class CaseView:
    """What is drawn of a case: its slices, and the Dice of each structure over the whole case (NaN where absent)."""

    case: str
    slices: tuple[Slice, ...]
    dice: dict[str, float]

    @property
    def mean_dice(self) -> float:
        """Mean over the structures present; NaN without any."""
        present = [value for value in self.dice.values() if not np.isnan(value)]
        return float(np.mean(present)) if present else float("nan")


def view_of(
    case: str,
    image: np.ndarray,
    reference: np.ndarray,
    prediction: np.ndarray,
    properties: dict[str, Any],
    protocol: SegmentationProtocol,
) -> CaseView:
    """Three orthogonal slices of a volume where the reference shows most structures, or the one slice of a 2-D image.

    Volumes are turned to patient axes: axial slices seen from the feet, anterior up, coronal and sagittal ones head up.

    Args:
        case: name.
        image: (C, z, y, x); three channels of a 2-D image are colours, otherwise the first one is shown.
        reference: label map (z, y, x).
        prediction: label map (z, y, x).
        properties: geometry as read with the image.
        protocol: which structures there are.
    """
    counts = {
        s.name: OverlapCounts.of(np.isin(prediction, s.ids), np.isin(reference, s.ids)) for s in protocol.structures
    }
    dice = {name: count.dice("nnunet") for name, count in counts.items()}
    if reference.shape[0] == 1:
        spacing = properties["spacing"]
        shown = Slice("image", _colours(image[:, 0]), reference[0], prediction[0], spacing[1] / spacing[2], False)
        return CaseView(case, (shown,), dice)
    (volume, *maps), spacing = _in_patient_axes([image[0], reference, prediction], affine_of(properties))
    place = [_fullest_slice(maps[0], axis) for axis in range(3)]
    low, high = _window(volume, maps[0])
    volume = np.clip((volume - low) / max(high - low, 1e-8), 0, 1).astype(np.float32)
    slices = []
    for axis, name in enumerate(VIEW_NAMES):
        rows, columns = (other for other in range(3) if other != axis)
        parts = [np.take(array, place[axis], axis) for array in (volume, *maps)]
        title = f"{name} {place[axis] + 1} of {volume.shape[axis]}"
        slices.append(Slice(title, *parts, spacing[rows] / spacing[columns], upwards=axis > 0))
    return CaseView(case, tuple(slices), dice)


def _in_patient_axes(arrays: Sequence[np.ndarray], affine: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
    """Arrays with axes to superior, posterior, left (nearest ones), and the spacing in mm in that order."""
    from nibabel import orientations

    turn = orientations.ornt_transform(orientations.io_orientation(affine), orientations.axcodes2ornt(("S", "P", "L")))
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    spacing = [0.0, 0.0, 0.0]
    for old, (new, _) in enumerate(turn):
        spacing[int(new)] = float(lengths[old])
    return [orientations.apply_orientation(array, turn) for array in arrays], spacing


def _window(volume: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Grey values that become black and white: the range in the box around the structures, without extremes."""
    box = find_objects((reference > 0).astype(np.uint8))
    low, high = np.percentile(volume[box[0]] if box else volume, [1, 99])
    return float(low), float(high)


def _fullest_slice(reference: np.ndarray, axis: int) -> int:
    """Slice with the most labels and, among those, the most labelled voxels; the middle one of an empty map."""
    others = tuple(other for other in range(3) if other != axis)
    voxels = (reference > 0).sum(axis=others)
    if not voxels.any():
        return reference.shape[axis] // 2
    labels = sum((reference == label).any(axis=others).astype(int) for label in np.unique(reference[reference > 0]))
    return int(np.lexsort((voxels, labels))[-1])


def _colours(image: np.ndarray) -> np.ndarray:
    """Image (C, y, x) as grey values or colours in 0..1."""
    shown = np.moveaxis(image[:3], 0, -1) if len(image) in (3, 4) else image[0]
    low, high = float(shown.min()), float(shown.max())
    return ((shown - low) / max(high - low, 1e-8)).astype(np.float32)
