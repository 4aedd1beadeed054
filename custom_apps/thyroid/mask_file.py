"""Masks of nodules: images whose values are understood, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from custom_apps.common.errors import DataError
from custom_apps.thyroid.image_file import FORMATS

NODULE, IGNORED = 1, 255
CONVENTIONS = ("binary", "index")
EXPECTED = {
    "binary": "0 and 1, or 0 and 255",
    "index": "0 (background), 1 (nodule) and 255 (ignored)",
}
# JPEG blurs the steps of a mask; values this near to black or white are taken for it, and so few may lie between.
NEAR, BETWEEN = 64, 0.02


def read_mask(path: str | Path, convention: str = "binary") -> np.ndarray:
    """Reads a mask as the class of each pixel.

    A mask of 0 and 255 may mean either nodule or "ignore"; taken in the wrong sense, training sees no nodule at all and
    says nothing. Hence the values of every file are checked.

    Args:
        path: PNG, BMP, TIFF, or JPEG, whose values need only be near black and white.
        convention: ``binary`` (0 and 1, or 0 and 255) or ``index`` (0, 1 and 255, which stands for pixels to ignore, as
            mmsegmentation has it). Palettes are read by their indices, colored masks only where they are gray.

    Returns:
        uint8 (H, W): 0 background, 1 nodule, 255 ignored.

    Raises:
        DataError: missing, damaged, in color, transparent, or with other values.
        ValueError: unknown convention.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}")
    path = Path(path)
    if not path.is_file():
        raise DataError(path, "no such file", "a mask")
    try:
        with Image.open(path, formats=FORMATS) as image:
            image.load()
            lossy = image.format == "JPEG"
            values = _values(path, image)
    except DataError:
        raise
    except Exception as error:  # decoders raise all kinds of errors on damaged files
        raise DataError(path, f"cannot be read ({type(error).__name__}: {error})", "a mask") from error
    if lossy:
        if convention == "index":
            raise DataError(path, "JPEG mask", f"a lossless file with {EXPECTED['index']}")
        return _near_black_or_white(path, values)
    found = np.unique(values)
    if convention == "index":
        if set(found.tolist()) <= {0, NODULE, IGNORED}:
            return values.astype(np.uint8)
    elif set(found.tolist()) <= {0, 1} or set(found.tolist()) <= {0, 255}:
        return (values > 0).astype(np.uint8)
    raise DataError(path, f"mask with the values {_listed(found)}", EXPECTED[convention])


def _values(path: Path, image: Image.Image) -> np.ndarray:
    """What stands in the file: (H, W)."""
    if image.mode in ("LA", "RGBA"):
        if image.getchannel("A").getextrema() != (255, 255):
            raise DataError(path, "transparent mask", EXPECTED["binary"])
        image = image.convert(image.mode[:-1])
    if image.mode == "P":
        _refuse_inverted(path, image)
    values = np.array(image)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.ndim == 3:
        # JPEG keeps color apart and coarsely, so that gray comes back a little colored.
        if np.ptp(values, axis=-1).max() > (NEAR if image.format == "JPEG" else 0):
            raise DataError(path, "mask in color", EXPECTED["binary"])
        values = values[..., 0]
    return values


def _refuse_inverted(path: Path, image: Image.Image) -> None:
    """Indices are what counts; a palette that shows the background brighter than the nodule contradicts them."""
    brightness = np.array(image.getpalette("RGB")).reshape(-1, 3).sum(1)
    used = [index for _, index in image.getcolors(256)]
    if len(used) == 2 and brightness[min(used)] > brightness[max(used)]:
        raise DataError(path, "palette that shows index 0 brighter than the other one", EXPECTED["binary"])


def _near_black_or_white(path: Path, values: np.ndarray) -> np.ndarray:
    """Mask from a JPEG file."""
    between = ((values >= NEAR) & (values <= 255 - NEAR)).mean()
    if between > BETWEEN or 0 < values.max() < 255 - NEAR:
        problem = f"JPEG mask with values up to {values.max()}, {between:.1%} of them neither black nor white"
        raise DataError(path, problem, "0 and 255; a lossless file for other values")
    return (values >= 128).astype(np.uint8)


def _listed(found: np.ndarray) -> str:
    text = ", ".join(str(value) for value in found[:6].tolist())
    return f"{text}, … ({len(found)} values)" if len(found) > 6 else text
