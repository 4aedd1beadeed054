"""NIfTI, NRRD and MetaImage files with SimpleITK's geometry; voxels of NIfTI files through nibabel."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from custom_apps.common.dicom_series import read_dicom_series
from custom_apps.common.errors import DataError
from custom_apps.seg.affine import properties_of

if TYPE_CHECKING:
    import SimpleITK as sitk

PSEUDO_SPACING = 999.0


def read(path: Path, reorient: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
    """Array (1, z, y, x) and properties of a scalar 2D or 3D image.

    Args:
        path: the file.
        reorient: turn the axes so that they run to right, anterior, superior; ``write`` turns them back.

    Raises:
        DataError: for truncated files, 4D or vector-valued images. What SimpleITK itself raises is passed on.
    """
    import SimpleITK as sitk

    header = sitk.ImageFileReader()
    header.SetFileName(str(path))
    header.ReadImageInformation()
    dimension = header.GetDimension()
    if dimension not in (2, 3):
        raise DataError(path, f"image is {dimension}D", "2D or 3D, one file for each channel")
    if header.GetNumberOfComponents() != 1:
        raise DataError(path, f"{header.GetNumberOfComponents()} values per voxel", "one file for each channel")
    if path.name.lower().endswith((".nii", ".nii.gz")):
        image = sitk.GetImageFromArray(_nifti_array(path, header.GetSize()[::-1]))
        image.SetSpacing(header.GetSpacing())
        image.SetOrigin(header.GetOrigin())
        image.SetDirection(header.GetDirection())
    else:
        image = header.Execute()
    return _described(image, reorient)


def read_series(folder: Path, reorient: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
    """The same of the folder with the slices of a DICOM series.

    Raises:
        DataError: see :func:`custom_apps.common.dicom_series.read_dicom_series`.
    """
    import SimpleITK as sitk

    values, affine = read_dicom_series(folder)
    geometry = properties_of(affine)["sitk"]
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    image.SetSpacing(geometry["spacing"])
    image.SetOrigin(geometry["origin"])
    image.SetDirection(geometry["direction"])
    return _described(image, reorient)


def _described(image: sitk.Image, reorient: bool) -> tuple[np.ndarray, dict[str, Any]]:
    """Array (1, z, y, x) and properties of an image."""
    import SimpleITK as sitk

    dimension = image.GetDimension()
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


def _nifti_array(path: Path, shape: Sequence[int]) -> np.ndarray:
    """Voxels (z, y, x) of a NIfTI file.

    ITK would fill what is missing of a truncated file with zeros, and replace NaN by zero, both without a word.
    """
    import nibabel

    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if path.name.lower().endswith(".gz") else content
    except EOFError as error:
        raise DataError(path, "file is truncated", f"a volume of shape {tuple(shape)}") from error
    proxy = nibabel.Nifti1Image.from_bytes(content).dataobj
    expected = proxy.offset + int(np.prod(proxy.shape, dtype=np.int64)) * proxy.dtype.itemsize
    if len(content) < expected:
        raise DataError(path, f"file is truncated: {len(content)} bytes", f"{expected} bytes as its header says")
    array = np.asarray(proxy).T
    return np.ascontiguousarray(array.reshape(shape), dtype=array.dtype.newbyteorder("="))
