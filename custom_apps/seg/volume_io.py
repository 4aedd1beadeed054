"""Images and label maps from and to files, whichever format: one array order, one set of properties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import partial_file, write_json
from custom_apps.seg import itk_files, natural_images, tiff_stacks

Properties = dict[str, Any]

NATURAL_ENDINGS = (".png", ".bmp", ".tif", ".tiff")
ITK_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
SERIES_ENDING = ".nii.gz"
IMAGE_ENDINGS = ITK_ENDINGS + NATURAL_ENDINGS
REORIENTING = "NibabelIOWithReorient"
READERS = ("SimpleITKIO", "NibabelIO", REORIENTING, "NaturalImage2DIO", "Tiff3DIO")

SPACING_TOLERANCE_MM = 1e-4


def file_ending(path: str | Path) -> str:
    """Ending of an image file, ``.nii.gz`` as one; it also stands for folders of DICOM slices, for their results.

    Raises:
        DataError: for a format that is not read here.
    """
    if Path(path).is_dir():
        return SERIES_ENDING
    for ending in IMAGE_ENDINGS:
        if Path(path).name.lower().endswith(ending):
            return ending
    raise DataError(path, "unknown file ending", f"one of {', '.join(IMAGE_ENDINGS)}")


def read_images(paths: Sequence[str | Path], reader: str | None = None) -> tuple[np.ndarray, Properties]:
    """Reads the channels of a case.

    Args:
        paths: one file, or folder of a DICOM series, per channel, or one natural image with its colours as channels.
        reader: nnU-Net's name of a reader to force; by default the ending decides.

    Returns:
        float32 image (C, z, y, x), and properties with JSON values only: ``spacing`` in mm in the same axis order, and
        what ``write_segmentation`` needs to give a label map the image's geometry. A 2D image has z = 1 and a first
        spacing of 999 (times the largest spacing, where there is one), which sets that axis apart for the planner.

    Raises:
        DataError: for a file that is missing, unreadable, truncated or 4D, for NaN or infinite values, and for channels
            that differ in shape or spacing.
    """
    if not paths:
        raise ValueError("no image files, expected at least one")
    parts, properties = [], None
    for path in paths:
        array, found = _read(path, reader)
        array = array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise DataError(path, "has NaN or infinite values", "finite intensities")
        if properties is None:
            properties = found
        elif problem := geometry_problem(array.shape[1:], found, parts[0].shape[1:], properties):
            raise DataError(path, problem[0], f"{problem[1]} as in {Path(paths[0]).name}")
        parts.append(array)
    return np.concatenate(parts), properties


def read_segmentation(path: str | Path, reader: str | None = None) -> tuple[np.ndarray, Properties]:
    """Reads a label map: int16 (1, z, y, x), and properties as ``read_images`` gives them.

    Raises:
        DataError: as for images; also for values that are no whole numbers, or not in 0..32767, and for colour files.
    """
    array, properties = _read(path, reader)
    if len(array) != 1:
        raise DataError(path, f"label map has {len(array)} channels", "one")
    if not np.isfinite(array).all() or (array.dtype.kind == "f" and not np.array_equal(array, np.round(array))):
        raise DataError(path, "label map has values that are no whole numbers", "integer labels")
    if array.min() < 0 or array.max() > np.iinfo(np.int16).max:
        raise DataError(path, f"label map has values from {array.min():g} to {array.max():g}", "labels in 0..32767")
    return array.astype(np.int16, copy=False), properties


def write_segmentation(array: np.ndarray, path: str | Path, properties: Properties, overwrite: bool = False) -> None:
    """Writes a label map with the geometry of the image it belongs to.

    Args:
        array: labels (z, y, x), stored as uint8, or as uint16 when a label is above 254.
        path: output; the ending picks the format.
        properties: as read with the image.
        overwrite: whether an existing file may be replaced.

    Raises:
        DataError: when the file exists and ``overwrite`` is off, or for an unknown ending.
    """
    ending = file_ending(path)
    _refuse_existing(path, overwrite)
    if array.ndim != 3:
        raise ValueError(f"label map has shape {array.shape}, expected (z, y, x)")
    array = array.astype(np.uint16 if array.max(initial=0) > 254 else np.uint8)
    with partial_file(path, ending) as temporary:
        if ending in ITK_ENDINGS:
            itk_files.write(array, temporary, properties)
        elif properties.get("reader") == "Tiff3DIO":
            tiff_stacks.write(array, temporary)
            write_json({"spacing": properties["spacing"]}, tiff_stacks.spacing_paths(path)[0])
        else:
            natural_images.write(array, temporary)


def write_probabilities(
    probabilities: np.ndarray, path: str | Path, properties: Properties, overwrite: bool = False
) -> None:
    """Writes probabilities (heads, z, y, x) to an ``.npz`` and the properties to a ``.json`` beside it.

    The archive holds one float32 array, ``probabilities``.

    Raises:
        DataError: when the file exists and ``overwrite`` is off.
    """
    path = Path(path).with_suffix(".npz") if Path(path).suffix != ".npz" else Path(path)
    _refuse_existing(path, overwrite)
    with partial_file(path) as temporary:
        np.savez_compressed(temporary, probabilities=np.asarray(probabilities, dtype=np.float32))
    write_json(properties, path.with_suffix(".json"))


def geometry_problem(
    shape: Sequence[int], properties: Properties, expected_shape: Sequence[int], expected_properties: Properties
) -> tuple[str, str] | None:
    """How shape or spacing differ from the expected ones, as (found, expected), or None."""
    if tuple(shape) != tuple(expected_shape):
        return f"shape is {tuple(shape)}", str(tuple(expected_shape))
    spacing, expected = properties["spacing"], expected_properties["spacing"]
    if not np.allclose(spacing, expected, rtol=0, atol=SPACING_TOLERANCE_MM):
        return f"spacing is {_rounded(spacing)}", str(_rounded(expected))
    return None


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), 5) for value in values]


def _refuse_existing(path: str | Path, overwrite: bool) -> None:
    if Path(path).exists() and not overwrite:
        raise DataError(path, "file exists", "another output folder, or leave to overwrite")


def _read(path: str | Path, reader: str | None) -> tuple[np.ndarray, Properties]:
    """Array (C, z, y, x) in the file's own type, and properties."""
    ending = file_ending(path)
    if Path(path).is_dir():
        return itk_files.read_series(Path(path), reorient=reader == REORIENTING)
    if not Path(path).is_file():
        raise DataError(path, "file is missing", "an image file")
    read = _reader(Path(path), ending, reader)
    try:
        return read(Path(path))
    except DataError:
        raise
    except Exception as error:  # the libraries raise everything from RuntimeError to zlib.error
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise DataError(path, f"cannot be read ({reason[0]})", f"a {ending} image") from error


def _reader(path: Path, ending: str, reader: str | None) -> Callable[[Path], tuple[np.ndarray, Properties]]:
    if ending in ITK_ENDINGS:
        return lambda path: itk_files.read(path, reorient=reader == REORIENTING)
    if reader == "Tiff3DIO" or (reader is None and ending in (".tif", ".tiff") and tiff_stacks.is_stack(path)):
        return tiff_stacks.read
    return natural_images.read
