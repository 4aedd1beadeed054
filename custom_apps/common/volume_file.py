"""Volumes from NIfTI files and folders of DICOM slices, and NIfTI files of volumes, with their place in space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from custom_apps.common.dicom_series import read_dicom_series
from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import partial_file

NIFTI_ENDINGS = (".nii.gz", ".nii")
GRID_TOLERANCE_MM = 0.1


@dataclass(frozen=True)
class Volume:
    """A scalar volume.

    Attributes:
        array: values (x, y, z) in the order of the file, in float32 unless asked otherwise.
        affine: matrix from index to position in mm (right, anterior, superior), float64 (4, 4).
        path: where it came from.
    """

    array: np.ndarray
    affine: np.ndarray
    path: Path

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Edges of a voxel."""
        return tuple(np.linalg.norm(self.affine[:3, :3], axis=0).tolist())


def is_nifti(path: str | Path) -> bool:
    """Whether a name ends as NIfTI files do."""
    return Path(path).name.lower().endswith(NIFTI_ENDINGS)


def nifti_stem(path: str | Path) -> str:
    """Name without ``.nii`` or ``.nii.gz``."""
    name = Path(path).name
    ending = next((ending for ending in NIFTI_ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def read_volume(path: str | Path, dtype: type = np.float32) -> Volume:
    """Reads a three-dimensional NIfTI file, or a folder with the slices of one DICOM series.

    Args:
        path: file or folder.
        dtype: type of the values; scale factors of the file are applied.

    Raises:
        DataError: missing, unreadable, truncated, not three-dimensional, a geometry that is no geometry, or values that
            are not finite.
    """
    path = Path(path)
    if path.is_dir():
        array, affine = read_dicom_series(path)
    else:
        array, affine = _read_nifti(path)
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(path, f"volume has shape {array.shape}", "three axes")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataError(path, "its orientation matrix is singular", "a volume with a place in space")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(path, "has NaN or infinite values", "finite intensities")
    return Volume(np.ascontiguousarray(array.astype(dtype, copy=False)), affine, path)


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import nibabel

    if not is_nifti(path):
        raise DataError(path, "unknown file ending", "a NIfTI file (.nii, .nii.gz) or a folder of DICOM slices")
    if not path.is_file():
        raise DataError(path, "no such file", "a NIfTI file")
    try:
        image = nibabel.load(path)
        array = np.asarray(image.dataobj)
    except Exception as error:  # nibabel and zlib raise all kinds of errors on damaged files
        raise DataError(path, f"is not readable ({type(error).__name__}: {error})", "an undamaged file") from error
    # A fourth axis of length one says nothing.
    array = array.reshape(array.shape[:3]) if array.ndim > 3 and array.size == np.prod(array.shape[:3]) else array
    return array, np.asarray(image.affine, np.float64)


def write_nifti(array: np.ndarray, affine: np.ndarray, path: str | Path, overwrite: bool = False) -> None:
    """Writes a volume, whole or not at all.

    Args:
        array: values (x, y, z), stored in their own type.
        affine: see :class:`Volume`.
        path: ending in ``.nii`` or ``.nii.gz``.
        overwrite: whether an existing file may be replaced.

    Raises:
        DataError: if the file exists and may not be replaced, or its ending is another one.
    """
    import nibabel

    if not is_nifti(path):
        raise DataError(path, "unknown file ending", ".nii or .nii.gz")
    if Path(path).exists() and not overwrite:
        raise DataError(path, "already there and not overwritten", "another name")
    image = nibabel.Nifti1Image(array, np.asarray(affine, np.float64), dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    with partial_file(path, ".nii.gz" if str(path).lower().endswith(".gz") else ".nii") as temporary:
        nibabel.save(image, temporary)


def grid_problem(
    shape: Sequence[int], affine: np.ndarray, expected_shape: Sequence[int], expected_affine: np.ndarray
) -> tuple[str, str] | None:
    """How a grid differs from the expected one, as (found, expected), or None.

    Grids are the same where shapes are, and no corner of the volumes lies further apart than 0.1 mm.
    """
    if tuple(shape) != tuple(expected_shape):
        return f"shape is {tuple(shape)}", str(tuple(expected_shape))
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(3, -1)
    apart = (affine - expected_affine) @ np.vstack([corners, np.ones(8)])
    distance_mm = float(np.linalg.norm(apart[:3], axis=0).max())
    if distance_mm > GRID_TOLERANCE_MM:
        return f"lies up to {distance_mm:.3g} mm elsewhere", "the same place in space"
    return None
