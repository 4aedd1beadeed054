"""Natural 2D images (PNG, BMP, TIFF): grey or colour, colours as channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.common.errors import DataError

SPACING = (999.0, 1.0, 1.0)
TIFF_ENDINGS = (".tif", ".tiff")


def read(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Array (C, 1, y, x) and properties; a palette image gives its indices, which is how label maps are drawn.

    Raises:
        DataError: for an array that is neither (y, x) nor (y, x, colours). What the libraries raise is passed on.
    """
    if path.suffix.lower() in TIFF_ENDINGS:
        import tifffile

        array = tifffile.imread(path)
    else:
        from PIL import Image

        with Image.open(path) as image:
            image.load()
            array = np.asarray(image)
    if array.ndim == 3 and array.shape[-1] in (2, 3, 4):
        array = np.moveaxis(array, -1, 0)
    elif array.ndim == 2:
        array = array[None]
    else:
        raise DataError(path, f"image has shape {array.shape}", "(y, x) or (y, x, colours)")
    array = array.astype(np.uint8) if array.dtype == bool else array
    return array[:, None], {"spacing": list(SPACING), "reader": "NaturalImage2DIO"}


def write(array: np.ndarray, path: Path) -> None:
    """Writes a label map (1, y, x) of unsigned integers."""
    if path.suffix.lower() in TIFF_ENDINGS:
        import tifffile

        tifffile.imwrite(path, array[0], compression="zlib")
    else:
        from PIL import Image

        Image.fromarray(array[0]).save(path)
