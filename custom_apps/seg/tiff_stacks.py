"""3D TIFF stacks, whose spacing is in a JSON file of the same name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.common.errors import DataError

COLOURS = (2, 3, 4)


def spacing_paths(path: str | Path) -> list[Path]:
    """Where the spacing of a stack may be: ``case_0000.json``, or ``case.json`` for all channels of a case."""
    path = Path(path)
    stem = path.name[: -len(path.suffix)]
    names = [stem, stem[:-5]] if stem[-4:].isdecimal() and stem[-5:-4] == "_" else [stem]
    return [path.with_name(f"{name}.json") for name in names]


def is_stack(path: Path) -> bool:
    """Whether a TIFF file is a stack and not a grey or colour image."""
    import tifffile

    if any(json_path.is_file() for json_path in spacing_paths(path)):
        return True
    try:
        with tifffile.TiffFile(path) as file:
            shape = file.series[0].shape
    except Exception:  # an unreadable file is reported when it is read
        return False
    return len(shape) > 2 and shape[-1] not in COLOURS


def read(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Array (1, z, y, x) and properties.

    Raises:
        DataError: when the array is not 3D, or its spacing file is missing or broken.
    """
    import tifffile

    array = tifffile.imread(path)
    if array.ndim != 3:
        raise DataError(path, f"image has shape {array.shape}", "a stack (z, y, x)")
    return array[None], {"spacing": _read_spacing(path), "reader": "Tiff3DIO"}


def write(array: np.ndarray, path: Path) -> None:
    """Writes a stack (z, y, x)."""
    import tifffile

    tifffile.imwrite(path, array, compression="zlib")


def _read_spacing(path: Path) -> list[float]:
    expected = '{"spacing": [z, y, x]} in mm'
    found = [json_path for json_path in spacing_paths(path) if json_path.is_file()]
    if not found:
        raise DataError(path, "has no spacing file", f"{spacing_paths(path)[-1].name} with {expected}")
    try:
        spacing = [float(value) for value in json.loads(found[0].read_text(encoding="utf-8"))["spacing"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(found[0], "is no spacing file", expected) from error
    if len(spacing) != 3 or min(spacing) <= 0:
        raise DataError(found[0], f"spacing is {spacing}", "three positive numbers")
    return spacing
