"""First transform of every chain: from the files of four contrasts to one volume with four channels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from custom_apps.brain.contrasts import CONTRASTS
from custom_apps.common.errors import DataError
from custom_apps.common.volume_file import Volume, grid_problem, read_volume

UNPREPARED = "volumes prepared by 'python -m custom_apps prepare brain_idh_ssm_mae' (whole numbers from 0 to 255)"


def read_contrast(path: str | Path) -> Volume:
    """One contrast from NIfTI, DICOM or ``.npy``; arrays have no place in space, they lie at the origin.

    Raises:
        DataError: see :func:`custom_apps.common.volume_file.read_volume`.
    """
    path = Path(path)
    if path.suffix != ".npy":
        return read_volume(path)
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(path, "no such file", "a NumPy array") from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(path, f"is not a readable array ({error})", "a NumPy array") from error
    if array.ndim != 3 or not array.size:
        raise DataError(path, f"array of shape {array.shape}", "three axes")
    if not np.isfinite(array).all():
        raise DataError(path, "has NaN or infinite values", "finite intensities")
    return Volume(array, np.eye(4), path)


class LoadPreparedd(MapTransform):
    """Replaces four paths by the prepared volume: uint8 (4, x, y, z) with its affine.

    A single path is a NIfTI or NumPy file with four channels, (4, x, y, z) or (x, y, z, 4).

    Args:
        keys: usually ``image``.
        size: voxels along every axis that volumes must have; None takes what comes.
        allow_missing_keys: as in MONAI.

    Raises:
        DataError: a file that is missing or damaged, contrasts on different grids, another size, or values that are not
            whole numbers from 0 to 255, as those of volumes that were not prepared.
    """

    def __init__(
        self, keys: KeysCollection = "image", size: Sequence[int] | None = None, allow_missing_keys: bool = False
    ):
        super().__init__(keys, allow_missing_keys)
        self.size = None if size is None else tuple(size)

    def load(self, paths: str | Path | Sequence[str | Path]) -> MetaTensor:
        """The volume of these files."""
        if isinstance(paths, (str, Path)):
            parts = _four_channels(Path(paths))
        elif len(paths) == len(CONTRASTS):
            parts = [read_contrast(path) for path in paths]
        else:
            raise DataError(Path(paths[0]).parent, f"{len(paths)} files", "t1, t2, t1ce and flair in this order")
        first = parts[0]
        for part in parts:
            if problem := grid_problem(part.array.shape, part.affine, first.array.shape, first.affine):
                raise DataError(part.path, problem[0], f"{problem[1]} as in {first.path.name}")
            self._refuse_unprepared(part)
        volume = torch.from_numpy(np.stack([part.array.astype(np.uint8) for part in parts]))
        meta = {"filename_or_obj": str(first.path)}
        return MetaTensor(volume, affine=torch.from_numpy(first.affine), meta=meta)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Loads each key."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.load(result[key])
        return result

    def _refuse_unprepared(self, part: Volume) -> None:
        array = part.array
        if self.size is not None and array.shape != self.size:
            raise DataError(part.path, f"volume has shape {array.shape}", f"{self.size}, as prepared for this network")
        if array.min() < 0 or array.max() > 255 or (array.dtype.kind == "f" and (array != np.rint(array)).any()):
            raise DataError(part.path, f"values from {array.min():g} to {array.max():g}, whole or not", UNPREPARED)


def _four_channels(path: Path) -> list[Volume]:
    """The contrasts in a file with four channels."""
    import nibabel

    if not path.is_file():
        raise DataError(path, "no such file", "a volume with four channels")
    try:
        if path.suffix == ".npy":
            array, affine = np.load(path, allow_pickle=False), np.eye(4)
        else:
            image = nibabel.load(path)
            array, affine = np.moveaxis(np.asarray(image.dataobj), -1, 0), np.asarray(image.affine, np.float64)
    except Exception as error:  # nibabel, zlib and NumPy raise all kinds of errors on damaged files
        raise DataError(path, f"is not readable ({type(error).__name__}: {error})", "an undamaged file") from error
    if array.ndim != 4 or len(array) != len(CONTRASTS):
        raise DataError(path, f"array of shape {array.shape}", "four channels and three axes")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(path, "has NaN or infinite values", "finite intensities")
    return [Volume(channel, affine, path) for channel in array]
