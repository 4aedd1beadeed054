"""A folder with the slices of one DICOM series as a volume, and the other way round."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from custom_apps.common.errors import DataError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM's patient axes run to left, posterior, superior; those of NIfTI to right, anterior, superior."""

UNEVEN = 0.05
"""Part of a slice's distance by which distances may differ before a slice counts as missing."""


def read_dicom_series(folder: str | Path, series: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Reads the slices of a series in the order of their places.

    Args:
        folder: holds the files, whatever their endings; files that are not DICOM are passed over.
        series: its identifier, for folders with several.

    Returns:
        Values (x, y, z) after rescaling, and the matrix (4, 4) from index to position in mm (right, anterior,
        superior).

    Raises:
        DataError: no DICOM files, several series, slices that do not decode, differ in shape or leave gaps.
    """
    import SimpleITK as sitk

    folder = Path(folder)
    known = dicom_series(folder)
    if not known:
        raise DataError(folder, "no DICOM slices", "the files of one series")
    if series is None and len(known) > 1:
        names = ", ".join(f"{text or '(no description)'}: {len(files)} files" for text, files in known.values())
        raise DataError(folder, f"{len(known)} series ({names})", "one series in a folder")
    if series is not None and series not in known:
        raise DataError(folder, f"no series {series}", f"one of {', '.join(known)}")
    files = known[series or next(iter(known))][1]
    try:
        positions = [_position(file) for file in files] if len(files) > 1 else []
        image = sitk.ReadImage(files if len(files) > 1 else files[0])
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataError(folder, f"does not decode as DICOM ({reason})", "undamaged slices of one size") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise DataError(folder, f"{image.GetDimension()}-dimensional or in color", "slices of one MR series")
    _refuse_gaps(folder, positions)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, LPS_TO_RAS @ affine


def dicom_series(folder: str | Path) -> dict[str, tuple[str, list[str]]]:
    """The series in a folder: identifier to description and files in order."""
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader
    found = {}
    # GDCM would print a warning about every folder without DICOM files.
    talks = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        identifiers = reader.GetGDCMSeriesIDs(str(folder))
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(talks)
    for series in identifiers:
        files = list(reader.GetGDCMSeriesFileNames(str(folder), series))
        header = sitk.ImageFileReader()
        header.SetImageIO("GDCMImageIO")
        header.SetFileName(files[0])
        header.ReadImageInformation()
        description = header.GetMetaData("0008|103e") if header.HasMetaDataKey("0008|103e") else ""
        found[series] = (description.strip(), files)
    return found


def _position(file: str) -> np.ndarray:
    import SimpleITK as sitk

    header = sitk.ImageFileReader()
    header.SetImageIO("GDCMImageIO")
    header.SetFileName(file)
    header.ReadImageInformation()
    return np.array(header.GetOrigin())


def _refuse_gaps(folder: Path, positions: list[np.ndarray]) -> None:
    if len(positions) < 3:
        return
    steps = np.linalg.norm(np.diff(np.stack(positions), axis=0), axis=1)
    if (usual := float(np.median(steps))) and np.abs(steps - usual).max() > UNEVEN * usual:
        odd = float(steps[np.abs(steps - usual).argmax()])
        raise DataError(folder, f"slices {odd:.3g} mm apart among others {usual:.3g} mm apart", "no slice missing")


def write_dicom_series(
    array: np.ndarray, affine: np.ndarray, folder: str | Path, tags: Mapping[str, str] | None = None
) -> Path:
    """Writes a volume as MR slices ``0001.dcm``, …

    Args:
        array: whole numbers (x, y, z) from -32768 to 32767; slices are along z.
        affine: matrix from index to position in mm (right, anterior, superior); without shear.
        folder: made when missing.
        tags: further ones, as ``"0008|103e"`` to text.

    Raises:
        DataError: if there are files in the folder already.
        ValueError: for values that are no whole numbers.
    """
    import SimpleITK as sitk

    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise DataError(folder, "already there and not overwritten", "an empty folder")
    if array.dtype.kind not in "iu":
        raise ValueError(f"DICOM slices hold whole numbers, got {array.dtype}")
    folder.mkdir(parents=True, exist_ok=True)
    lps = LPS_TO_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T.astype(np.int16)))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection(direction.ravel().tolist())
    # Identifiers are made of the content, so that the same volume gives the same files.
    digest = hashlib.sha256(str((array.shape, folder.name)).encode() + array.tobytes()).hexdigest()
    root = f"2.25.{int(digest[:14], 16)}"
    common = {
        "0008|0060": "MR",
        "0008|0008": "ORIGINAL\\PRIMARY",
        "0020|000d": f"{root}.1",
        "0020|000e": f"{root}.2",
        "0020|0052": f"{root}.3",
        "0020|0037": "\\".join(f"{value:.9g}" for value in direction[:, :2].T.ravel()),
        "0018|0050": f"{spacing[2]:.6g}",
        "0018|0088": f"{spacing[2]:.6g}",
        **(tags or {}),
    }
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number in range(array.shape[2]):
        plane = image[:, :, number]
        for tag, value in common.items():
            plane.SetMetaData(tag, value)
        position = image.TransformIndexToPhysicalPoint((0, 0, number))
        plane.SetMetaData("0020|0032", "\\".join(f"{value:.9g}" for value in position))
        plane.SetMetaData("0020|0013", str(number + 1))
        plane.SetMetaData("0008|0018", f"{root}.4.{number + 1}")
        writer.SetFileName(str(folder / f"{number + 1:04d}.dcm"))
        writer.Execute(plane)
    return folder
