"""Random changes of a clip, drawn once and applied to all of its frames."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from custom_apps.common.random_box import random_box
from custom_apps.echo.frames import frame_size, resize


class RandClipAffined(MapTransform, Randomizable):
    """Rotates, moves, scales and shears all frames of a clip by one draw; 0 outside, nearest neighbor.

    Args:
        keys: floating-point images; label maps (integer) may go along.
        degrees: angle uniform in ±degrees, about the middle of the frame.
        translate: shift uniform in ± this share of width and of height, rounded to whole pixels.
        scale: range of one factor for both axes; None for no scaling.
        shear_degrees: angles of shear along x and along y, each uniform in ± this.
        interpolation: of images: ``nearest``, as published, or ``bilinear``.
        allow_missing_keys: as in MONAI.

    Source: E-ViM3, arXiv 2503.20258. Deviation: MONAI's ``RandAffine`` draws one factor for each axis and no angles of
    shear, and knows clips only as volumes.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        degrees: float = 15.0,
        translate: float = 0.2,
        scale: Sequence[float] | None = (0.8, 1.2),
        shear_degrees: float = 0.0,
        interpolation: str = "nearest",
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        if interpolation not in ("nearest", "bilinear"):
            raise ValueError(f"interpolation must be 'nearest' or 'bilinear', got {interpolation!r}")
        self.degrees, self.translate, self.shear_degrees = degrees, translate, shear_degrees
        self.scale, self.interpolation = tuple(scale or (1.0, 1.0)), interpolation

    def randomize(self, data: Sequence[int]) -> np.ndarray:
        """Draws the matrix (2, 3) that maps x, y of the input to the output, in pixels about the middle."""
        height, width = data
        angle = self.R.uniform(-self.degrees, self.degrees)
        reach = self.translate * np.array([width, height])
        offset = np.rint(self.R.uniform(-reach, reach))
        factor = self.R.uniform(*self.scale)
        shear = self.R.uniform(-self.shear_degrees, self.shear_degrees, size=2)
        return affine_matrix(angle, offset, factor, shear)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shapes."""
        result = dict(data)
        matrix = None
        for key in self.key_iterator(result):
            frames = result[key]
            matrix = self.randomize(frames.shape[-2:]) if matrix is None else matrix
            result[key] = warp(frames, matrix, self.interpolation if frames.is_floating_point() else "nearest")
        return result


def affine_matrix(
    degrees: float, offset: Sequence[float], factor: float, shear_degrees: Sequence[float] = (0.0, 0.0)
) -> np.ndarray:
    """Shear along x, then along y, then rotation (clockwise on the screen), scaling and shift: (2, 3).

    Args:
        degrees: angle.
        offset: x and y in pixels.
        factor: scaling of both axes.
        shear_degrees: angles along x and along y.
    """
    angle, x, y = math.radians(degrees), math.radians(shear_degrees[0]), math.radians(shear_degrees[1])
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    along_x, along_y = np.array([[1, -math.tan(x)], [0, 1]]), np.array([[1, 0], [-math.tan(y), 1]])
    return np.concatenate([factor * rotation @ along_y @ along_x, np.reshape(offset, (2, 1))], axis=1)


def warp(frames: torch.Tensor, matrix: np.ndarray, interpolation: str) -> torch.Tensor:
    """Applies a matrix of :func:`affine_matrix` to all frames (…, H, W)."""
    height, width = frames.shape[-2:]
    inverse = np.linalg.inv(matrix[:, :2])
    inverse = np.concatenate([inverse, -inverse @ matrix[:, 2:]], axis=1)
    # The grid counts from -1 to 1 over the width and over the height.
    half = np.array([width, height]) / 2
    theta = torch.from_numpy(inverse * np.append(half, 1)[None] / half[:, None]).float()[None]
    flat = frames.reshape(1, -1, height, width)
    grid = F.affine_grid(theta, [1, 1, height, width], align_corners=False)
    values = flat if flat.is_floating_point() else flat.double()
    moved = F.grid_sample(values, grid.to(values.dtype), interpolation, "zeros", align_corners=False)
    return moved.to(frames.dtype).reshape(frames.shape)


class RandClipJitterd(MapTransform, Randomizable):
    """Brightness and contrast of all frames by one draw, in random order; frames are gray, from 0 to 1.

    Args:
        keys: usually ``image``.
        brightness: factor uniform in 1 ± this.
        contrast: factor uniform in 1 ± this, about the mean of each frame.
        allow_missing_keys: as in MONAI.

    Source: E-ViM3, arXiv 2503.20258. MONAI's intensity transforms neither clip to the range of gray values nor change
    contrast linearly.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        brightness: float = 0.2,
        contrast: float = 0.2,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.brightness, self.contrast = brightness, contrast

    def randomize(self, data: Any = None) -> tuple[float, float, bool]:
        """Draws both factors and whether contrast comes first."""
        brightness = self.R.uniform(1 - self.brightness, 1 + self.brightness)
        contrast = self.R.uniform(1 - self.contrast, 1 + self.contrast)
        return brightness, contrast, bool(self.R.randint(2))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shapes."""
        result = dict(data)
        brightness, contrast, contrast_first = self.randomize()
        for key in self.key_iterator(result):
            frames = result[key]
            for turn in range(2):
                if (turn == 0) == contrast_first:
                    mean = frames.mean((-2, -1), keepdim=True)
                    frames = (mean + contrast * (frames - mean)).clamp(0, 1)
                else:
                    frames = (brightness * frames).clamp(0, 1)
            result[key] = frames
        return result


class RandClipResizedCropd(MapTransform, Randomizable):
    """Cuts a random box out of all frames and resizes it.

    Args:
        keys: usually ``image``.
        size: edge of the result in pixels, or height and width.
        area: range of the box's share of the frame.
        ratio: range of width over height, drawn uniformly in its logarithm.
        allow_missing_keys: as in MONAI.

    When ten draws do not fit into the frame, the largest box in its middle within ``ratio`` is taken.

    Source: E-ViM3 on MICCAI-BUV, arXiv 2503.20258 (random resized crop as of the Inception networks).
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        size: int | Sequence[int] = 112,
        area: Sequence[float] = (0.8, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.size, self.area, self.ratio = frame_size(size), tuple(area), tuple(ratio)

    def randomize(self, data: Sequence[int]) -> tuple[int, int, int, int]:
        """Draws top, left, height and width of the box in a frame of size ``data``."""
        return random_box(self.R, data, self.area, self.ratio)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """(…, H, W) to (…, *size)."""
        result = dict(data)
        box = None
        for key in self.key_iterator(result):
            box = self.randomize(result[key].shape[-2:]) if box is None else box
            top, left, height, width = box
            result[key] = resize(result[key][..., top : top + height, left : left + width], self.size)
        return result
