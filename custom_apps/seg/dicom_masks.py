"""Label maps that were predicted of DICOM series, ready to be written as DICOM Segmentations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from custom_apps.common.dicom_segmentation import DicomMask
from custom_apps.common.dicom_series import dicom_series, read_dicom_series
from custom_apps.common.errors import DataError
from custom_apps.common.volume_file import grid_problem
from custom_apps.seg.affine import affine_of
from custom_apps.seg.structure_volumes import structures_of
from custom_apps.seg.volume_io import file_ending, read_segmentation


def dicom_mask(
    parser: ConfigParser, item: Mapping[str, Any], output_dir: Path, series: str | Path | None = None
) -> DicomMask | None:
    """The label map of a predicted case whose image is a DICOM series, or was made from one.

    Args:
        parser: of the inference configuration, with ``model``.
        item: of the list of cases.
        output_dir: where the label map is.
        series: folder of the series that an image of another format was made from.

    Returns:
        The mask, or None where there is no series.

    Raises:
        DataError: if the image does not lie where the series does.
    """
    image = Path(item["image"][0])
    folder = image if image.is_dir() else series
    if folder is None:
        return None
    path = output_dir / f"{item['case']}{file_ending(image)}"
    labels, properties = read_segmentation(path)
    values, affine = read_dicom_series(folder)
    index_order = affine_of(properties)[:, [2, 1, 0, 3]]
    if problem := grid_problem(labels.shape[:0:-1], index_order, values.shape, affine):
        raise DataError(image, problem[0], f"{problem[1]} as the series in {folder}")
    restored = bool(parser.get_parsed_content("restore_ids")) if "restore_ids" in parser else False
    structures = structures_of(parser.get_parsed_content("model"), restored)
    (_, files), *_ = dicom_series(folder).values()
    return DicomMask(labels[0], structures, [Path(file) for file in files])
