"""NIfTI, NRRD and MetaImage files through SimpleITK, with the checks it leaves out."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.common.errors import DataError

PSEUDO_SPACING = 999.0
CHUNK_BYTES = 1 << 22


def read(path: Path, reorient: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
    """Array (1, z, y, x) and properties of a scalar 2D or 3D image.

    Args:
        path: the file.
        reorient: turn the axes so that they run to right, anterior, superior; ``write`` turns them back.

    Raises:
        DataError: for truncated files, 4D or vector-valued images. What SimpleITK itself raises is passed on.
    """
    import SimpleITK as sitk

    if path.name.lower().endswith((".nii", ".nii.gz")):
        _check_nifti_is_complete(path)
    image = sitk.ReadImage(str(path))
    dimension = image.GetDimension()
    if dimension not in (2, 3):
        raise DataError(path, f"image is {dimension}D", "2D or 3D, one file for each channel")
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise DataError(path, f"{image.GetNumberOfComponentsPerPixel()} values per voxel", "one file for each channel")
    geometry: dict[str, Any] = {}
    if reorient and dimension == 3:
        geometry["orientation"] = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
        image = sitk.DICOMOrient(image, "RAS")
    geometry |= {
        "spacing": list(image.GetSpacing()),
        "origin": list(image.GetOrigin()),
        "direction": list(image.GetDirection()),
    }
    array, spacing = sitk.GetArrayFromImage(image)[None], geometry["spacing"][::-1]
    if dimension == 2:
        array, spacing = array[None], [PSEUDO_SPACING * max(spacing), *spacing]
    return array, {"spacing": spacing, "reader": "SimpleITKIO", "sitk": geometry}


def write(array: np.ndarray, path: Path, properties: dict[str, Any]) -> None:
    """Writes an array (z, y, x) with the geometry in ``properties`` (compressed where the format can be)."""
    import SimpleITK as sitk

    geometry = properties.get("sitk")
    is_flat = geometry is not None and len(geometry["spacing"]) == 2
    image = sitk.GetImageFromArray(array[0] if is_flat else array)
    if geometry is None:
        image.SetSpacing(properties["spacing"][::-1])
    else:
        image.SetSpacing(geometry["spacing"])
        image.SetOrigin(geometry["origin"])
        image.SetDirection(geometry["direction"])
        if "orientation" in geometry:
            image = sitk.DICOMOrient(image, geometry["orientation"])
    sitk.WriteImage(image, str(path), useCompression=True)


def _check_nifti_is_complete(path: Path) -> None:
    """Compares the length of a NIfTI file with its header: ITK fills what is missing with zeros and says nothing."""
    import nibabel

    proxy = nibabel.load(path).dataobj
    expected = proxy.offset + int(np.prod(proxy.shape, dtype=np.int64)) * proxy.dtype.itemsize
    if path.name.lower().endswith(".gz"):
        found = 0
        try:
            with gzip.open(path) as file:
                while chunk := file.read(CHUNK_BYTES):
                    found += len(chunk)
        except EOFError as error:
            raise DataError(path, "file is truncated", f"{expected} bytes when unpacked") from error
    else:
        found = path.stat().st_size
    if found < expected:
        raise DataError(path, f"file is truncated: {found} bytes", f"{expected} bytes as its header says")
