"""Ultrasound images in PNG, JPEG, BMP, TIFF and DICOM files, as 8-bit gray or color."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from custom_apps.common.errors import DataError

DICOM_ENDINGS = (".dcm", ".dicom", ".ima")
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", *DICOM_ENDINGS)
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
EXPECTED = "an undamaged PNG, JPEG, BMP, TIFF or DICOM image"
MASK_FOLDER = re.compile(r"(^|[-_])(masks?|annotations?|labels?)([-_]|$)", re.IGNORECASE)
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def image_files(folder: str | Path, deep: bool = False) -> list[Path]:
    """The images in a folder, sorted by name; hidden files and files of other kinds are passed over.

    Args:
        folder: where to look.
        deep: also in the folders below it, except hidden ones.

    Raises:
        DataError: no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(folder, "no such folder", "a folder of images")
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        path
        for path in found
        if path.suffix.lower() in ENDINGS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def image_name(path: str | Path) -> str:
    """Name of an image without folders and without the ending of its format."""
    path = Path(path)
    return path.stem if path.suffix.lower() in ENDINGS else path.name


def in_mask_folder(path: Path) -> bool:
    """Whether a path relative to its data set is below a folder of masks, such as ``masks_1`` or ``trainval-mask``."""
    return any(MASK_FOLDER.search(part) for part in path.parent.parts)


def read_image(path: str | Path, color: bool = False) -> np.ndarray:
    """Reads an image as 8-bit gray.

    Gray from color is the luma 0.299 R + 0.587 G + 0.114 B. Palettes are resolved. Transparent parts turn black. Of
    16 bits the upper 8 are taken, unless no value needs more than 8. DICOM is read by its own window, see
    :func:`custom_apps.common.dicom_pixels.read_dicom_pixels`. Images are not turned by the orientation that a camera
    may have noted, because masks would not be either.

    Args:
        path: the file; DICOM is recognized by its content, whatever its name.
        color: RGB instead of gray; gray images get three equal channels.

    Returns:
        uint8 (H, W), or (H, W, 3) with ``color``.

    Raises:
        DataError: missing, damaged, of another format, several images in one file, or values that are no 8 or 16 bits.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(path, "no such file", "an image")
    if is_dicom(path):
        return _dicom(path, color)
    try:
        with Image.open(path, formats=FORMATS) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise DataError(path, f"{image.n_frames} images in one file", "one image")
            image.load()
            if image.mode in SIXTEEN_BITS:
                image = Image.fromarray(_upper_bits(path, np.asarray(image)))
            if image.mode == "F":
                raise DataError(path, "floating-point values", "8 or 16 bits")
            return np.array(_opaque(image).convert("RGB" if color else "L"))
    except DataError:
        raise
    except Exception as error:  # decoders raise all kinds of errors on damaged files
        raise DataError(path, f"cannot be read ({type(error).__name__}: {error})", EXPECTED) from error


def is_dicom(path: str | Path) -> bool:
    """Whether a file says of itself, or by its ending, that it is DICOM."""
    path = Path(path)
    if path.suffix.lower() in DICOM_ENDINGS:
        return True
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def _dicom(path: Path, color: bool) -> np.ndarray:
    from custom_apps.common.dicom_pixels import read_dicom_pixels

    pixels, _ = read_dicom_pixels(path)
    if len(pixels) > 1:
        raise DataError(path, f"{len(pixels)} frames in one file", "a single image")
    return np.array(Image.fromarray(pixels[0]).convert("RGB" if color else "L"))


def _upper_bits(path: Path, values: np.ndarray) -> np.ndarray:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise DataError(path, f"values from {low} to {high}", "8 or 16 bits")
    return (values if high < 256 else values >> 8).astype(np.uint8)


def _opaque(image: Image.Image) -> Image.Image:
    """Without transparency: over black."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image
