"""Masks that were predicted of DICOM images, ready to be written as DICOM Segmentations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser

from custom_apps.common.dicom_segmentation import DicomMask
from custom_apps.thyroid.image_file import is_dicom, read_image
from custom_apps.thyroid.mask_export import ENDINGS


def dicom_mask(
    parser: ConfigParser, item: Mapping[str, Any], output_dir: Path, series: str | Path | None = None
) -> DicomMask | None:
    """The nodule mask of a DICOM image; None for images of other formats, and where no mask was written.

    Args:
        parser: of the inference configuration; not used.
        item: of the list of images.
        output_dir: where ``<case>_mask.png`` is.
        series: not used; pictures are not made from series.
    """
    image, path = Path(item["image"]), output_dir / f"{item['case']}{ENDINGS['mask']}"
    if not path.is_file() or not is_dicom(image):
        return None
    return DicomMask((read_image(path) > 0)[None].astype(np.uint8), {"thyroid nodule": [1]}, [image])
