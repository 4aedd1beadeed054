"""First steps of every chain: files to arrays."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from custom_apps.common.errors import DataError
from custom_apps.thyroid.image_file import read_image
from custom_apps.thyroid.mask_file import CONVENTIONS, read_mask


class LoadImaged(MapTransform):
    """Reads images; notes the size of the first one in ``original_size``.

    Args:
        keys: paths, which become uint8 (1, H, W), or (3, H, W) with ``color``. Arrays (H, W) or (H, W, 3) of uint8 are
            taken as images that were read before.
        color: RGB instead of gray.
        allow_missing_keys: as in MONAI.

    Raises:
        DataError: see :func:`custom_apps.thyroid.image_file.read_image`.
    """

    def __init__(self, keys: KeysCollection = "image", color: bool = False, allow_missing_keys: bool = False):
        super().__init__(keys, allow_missing_keys)
        self.color = color

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Paths to arrays."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            if not isinstance(image, np.ndarray):
                image = read_image(image, self.color)
            result[key] = image[None] if image.ndim == 2 else np.ascontiguousarray(image.transpose(2, 0, 1))
            result.setdefault("original_size", image.shape[:2])
        return result


class LoadMaskd(MapTransform):
    """Reads masks of the same size as the image.

    Args:
        keys: paths, which become uint8 (1, H, W): 0 background, 1 nodule, 255 ignored.
        convention: see :func:`custom_apps.thyroid.mask_file.read_mask`.
        image_key: the image, read before.
        allow_missing_keys: for images without masks.

    Raises:
        DataError: see `read_mask`; also for a mask of another size.
    """

    def __init__(
        self,
        keys: KeysCollection = "label",
        convention: str = "binary",
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        if convention not in CONVENTIONS:
            raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}")
        self.convention, self.image_key = convention, image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Paths to arrays."""
        result = dict(data)
        for key in self.key_iterator(result):
            path = result[key]
            result[key] = read_mask(path, self.convention)[None]
            check_same_size(path, result[key].shape[-2:], result[self.image_key].shape[-2:])
        return result


class CopyTargetd(MapTransform):
    """Gives ``target``, what a network is to restore, where a record has none of its own: the image as it is.

    Args:
        keys: the image.
        target_key: where to.

    Raises:
        DataError: the record's own target is of another size.
    """

    def __init__(self, keys: KeysCollection = "image", target_key: str = "target"):
        super().__init__(keys)
        self.target_key = target_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shapes."""
        result = dict(data)
        image = result[self.keys[0]]
        target = result.setdefault(self.target_key, image)
        check_same_size(result["case"], image.shape[-2:], target.shape[-2:])
        return result


def check_same_size(path: Any, size: tuple[int, ...], other: tuple[int, ...]) -> None:
    """Raises `DataError` where sizes (height, width) differ."""
    if tuple(size) != tuple(other):
        raise DataError(str(path), f"{size[1]}×{size[0]} pixels", f"{other[1]}×{other[0]}, as what it belongs to")
