"""User clicks of a case: their files, their checks, and their way into the network's frame."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import write_json
from custom_apps.seg.labels import LabelManager

FORM = '{"points": [{"name": "Left_IAC", "point": [10, 52, 31]}]}'
RIGHT_ANTERIOR_SUPERIOR = "RAS"
OPPOSITES = ({"R", "L"}, {"A", "P"}, {"S", "I"})

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Click:
    """A voxel that a user says belongs to a structure.

    Attributes:
        label: label id of the structure.
        point: voxel coordinates (z, y, x): ``SimpleITK.GetArrayFromImage(image)[z, y, x]``, or, what is the same voxel
            of a NIfTI file, ``nibabel.load(file).dataobj[x, y, z]``. Fractions are places between voxel centers.
    """

    label: int
    point: tuple[float, float, float]


def clickable_labels(labels: LabelManager) -> dict[str, int]:
    """Name to id of the labels that can be clicked, the foreground ones.

    Raises:
        ValueError: for regions, whose voxels belong to several heads.
    """
    if labels.has_regions:
        raise ValueError("clicks are offered for labels, and these are regions that overlap")
    return {name: label for name, label in zip(labels.names, labels.all_labels, strict=True) if label != 0}


def parse_clicks(content: Any, names: Mapping[str, int], source: str | Path) -> list[Click]:
    """Clicks of parsed JSON in the form of ToothFairy3, ``{"points": [{"name": ..., "point": [z, y, x]}, ...]}``.

    Args:
        content: the parsed file; ``points`` may be empty.
        names: label ids by name.
        source: named in errors.

    Raises:
        DataError: for another form, a name that is no label, or coordinates that are no finite numbers.
    """
    points = content.get("points") if isinstance(content, Mapping) else None
    if not isinstance(points, list):
        raise DataError(source, "holds no list 'points'", FORM)
    clicks = []
    for number, entry in enumerate(points, start=1):
        name, point = (entry.get("name"), entry.get("point")) if isinstance(entry, Mapping) else (None, None)
        if not isinstance(name, str) or name not in names:
            raise DataError(source, f"click {number} names {name!r}", f"one of {', '.join(names)}")
        if not (isinstance(point, list) and len(point) == 3 and all(map(_is_number, point))):
            raise DataError(source, f"click {number} has the point {point!r}", "three finite numbers [z, y, x]")
        clicks.append(Click(names[name], tuple(map(float, point))))
    return clicks


def read_clicks(path: str | Path, names: Mapping[str, int]) -> list[Click]:
    """Reads a file of clicks, see :func:`parse_clicks`.

    Raises:
        DataError: also for a file that is missing or no JSON.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "a file of clicks") from error
    except ValueError as error:
        raise DataError(path, f"is not JSON ({error})", FORM) from error
    return parse_clicks(content, names, path)


def write_clicks(clicks: Sequence[Click], names: Mapping[str, int], path: str | Path) -> None:
    """Writes clicks in the form that :func:`read_clicks` reads."""
    by_id = {label: name for name, label in names.items()}
    write_json({"points": [{"name": by_id[c.label], "point": list(c.point)} for c in clicks]}, path)


def check_clicks(clicks: Sequence[Click], shape: Sequence[int], source: str | Path, most_clicks: int) -> None:
    """Checks that clicks lie in their image; more of a structure than the network was trained for is logged.

    Args:
        clicks: as read.
        shape: of the image (z, y, x).
        source: named in errors.
        most_clicks: largest number of clicks in a structure during training.

    Raises:
        DataError: for a click outside the image.
    """
    for number, click in enumerate(clicks, start=1):
        if any(not -0.5 <= c <= edge - 0.5 for c, edge in zip(click.point, shape, strict=True)):
            ranges = " and ".join(f"0..{edge - 1}" for edge in shape)
            problem = f"click {number} at {list(click.point)} is outside the image"
            raise DataError(source, problem, f"coordinates [z, y, x] in {ranges}")
    for label, count in Counter(click.label for click in clicks).items():
        if count > most_clicks:
            _logger.warning(
                "%s: %d clicks of label %d, the network was trained with at most %d", source, count, label, most_clicks
            )


def shape_as_read(properties: Mapping[str, Any], transpose_backward: Sequence[int]) -> list[int]:
    """Shape (z, y, x) of the image that preparation left these properties for."""
    return [properties["shape_before_cropping"][axis] for axis in transpose_backward]


def clicks_as_read(clicks: Sequence[Click], properties: Mapping[str, Any], shape: Sequence[int]) -> list[Click]:
    """Clicks in the axes of the array that was read; they differ from the file's when the reader turns images to RAS.

    Args:
        clicks: in the file's axes.
        properties: of the image, as read.
        shape: of the array (z, y, x).
    """
    stored = properties.get("sitk", {}).get("orientation")
    if stored in (None, RIGHT_ANTERIOR_SUPERIOR):
        return list(clicks)
    turned = []
    for click in clicks:
        point = [0.0, 0.0, 0.0]
        for letter, coordinate in zip(stored, reversed(click.point), strict=True):
            axis = next(number for number, pair in enumerate(OPPOSITES) if letter in pair)
            edge = shape[::-1][axis]
            point[axis] = coordinate if letter == RIGHT_ANTERIOR_SUPERIOR[axis] else edge - 1 - coordinate
        turned.append(Click(click.label, tuple(reversed(point))))
    return turned


def prepared_points(
    points: np.ndarray, properties: Mapping[str, Any], transpose_forward: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Clicked voxels of the prepared image: transposed, shifted by the crop, scaled as the image was resampled.

    Args:
        points: coordinates (K, 3) in the array as read.
        properties: as ``preprocess_case`` leaves them.
        transpose_forward: of the plan.

    Returns:
        Nearest voxel of each click (K, 3), int64; and which clicks lie inside the crop (K,), boolean. Those outside,
        in the zeros around the patient, are in no voxel of the prepared image.

    Voxel centers are at whole coordinates: coordinate q of n voxels becomes ``(q + 0.5) * m / n - 0.5`` of m.
    """
    transposed = np.asarray(points, np.float64).reshape(-1, 3)[:, list(transpose_forward)]
    box = np.asarray(properties["bbox_used_for_cropping"], np.float64)
    old = np.asarray(properties["shape_after_cropping_and_before_resampling"], np.float64)
    new = np.asarray(properties["shape_after_resampling"], np.float64)
    cropped = transposed - box[:, 0]
    inside = ((cropped >= -0.5) & (cropped <= old - 0.5)).all(axis=1)
    scaled = (cropped + 0.5) * new / old - 0.5
    return np.clip(np.floor(scaled + 0.5), 0, new - 1).astype(np.int64), inside


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
