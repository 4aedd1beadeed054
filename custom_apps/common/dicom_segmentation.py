"""Label maps as DICOM Segmentation objects that refer to the images they belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import partial_file
from custom_apps.common.run_record import versions

ENDING = "_seg.dcm"
MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""What every image has to have, if only empty; anonymized files may lack it."""
MANUFACTURER, PRODUCT = "mamba-bundles", "MONAI bundles of Mamba networks"


@dataclass(frozen=True)
class DicomMask:
    """A label map of DICOM images.

    Attributes:
        labels: whole numbers (frames, rows, columns), 0 is background.
        structures: name to its labels, in the order of the segments; structures may overlap.
        sources: the files: one for each frame, or a single one with all frames.
    """

    labels: np.ndarray
    structures: Mapping[str, Sequence[int]]
    sources: Sequence[Path]


def write_dicom_segmentation(mask: DicomMask, path: str | Path, overwrite: bool = False) -> Path:
    """Writes a binary DICOM Segmentation with a segment for each structure.

    Structures that are not there have a segment without frames. Identifiers derive from the content, so that the same
    mask of the same images gives the same file but for date and time.

    Args:
        mask: what to write.
        path: the file.
        overwrite: whether an existing one may be replaced.

    Raises:
        DataError: if the file exists and may not be replaced, highdicom is not installed, the images cannot be read, do
            not match the label map, or are loops, which have no place in space to refer to.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise DataError(path, "already there and not overwritten", "another folder, or leave to overwrite")
    try:
        import highdicom
        import pydicom
    except ImportError as error:
        raise DataError(path, "cannot be written without highdicom", "pip install 'mamba-bundles[dicom]'") from error
    from pydicom.sr.codedict import codes

    try:
        sources = [pydicom.dcmread(source) for source in mask.sources]
    except Exception as error:  # pydicom raises all kinds of errors on damaged files
        raise DataError(mask.sources[0], f"does not decode as DICOM ({error})", "undamaged files") from error
    for source in sources:
        for attribute in MAY_BE_EMPTY:
            if attribute not in source:
                setattr(source, attribute, None)
    frames = sum(int(source.get("NumberOfFrames", 1)) for source in sources)
    expected = (frames, int(sources[0].Rows), int(sources[0].Columns))
    if mask.labels.shape != expected:
        raise DataError(mask.sources[0], f"images have shape {expected}", f"that of the mask, {mask.labels.shape}")
    planes = np.stack([np.isin(mask.labels, labels) for labels in mask.structures.values()], axis=-1).astype(np.uint8)
    version = versions()["mamba-bundles"] or "unknown"
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=PRODUCT, version=version, family=codes.DCM.ArtificialIntelligence
    )
    structure = codes.SCT.AnatomicalStructure
    segments = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=structure,
            segmented_property_type=structure,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(mask.structures, 1)
    ]
    digest = hashlib.sha256("".join(str(source.SOPInstanceUID) for source in sources).encode() + planes.tobytes())
    number = int(digest.hexdigest()[:24], 16)
    try:
        segmentation = highdicom.seg.Segmentation(
            sources,
            planes,
            "BINARY",
            segments,
            series_instance_uid=highdicom.UID(f"2.25.{number}1"),
            series_number=900,
            sop_instance_uid=highdicom.UID(f"2.25.{number}2"),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=PRODUCT,
            software_versions=version,
            device_serial_number="1",
            series_description="automatic segmentation, for research only",
            content_label="SEGMENTATION",
        )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise DataError(
            mask.sources[0], f"no segmentation can refer to it ({error})", "single images, or slices with their place"
        ) from error
    with partial_file(path, ".dcm") as temporary:
        segmentation.save_as(temporary)
    return path
