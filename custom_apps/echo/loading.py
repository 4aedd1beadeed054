"""First transform of every chain: from a path to the frames of a video."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from custom_apps.common.errors import DataError
from custom_apps.echo.video_file import read_video


class LoadVideod(MapTransform):
    """Replaces a path by the decoded video, uint8 (C, frames, height, width), and adds ``fps`` where it is not known.

    `custom_apps.echo.clip_dataset.ClipDataset` can keep what it loads.

    Args:
        keys: usually ``image``.
        gray: decode to one channel, several times faster; published chains compute gray from RGB themselves
            (`custom_apps.echo.frames.GrayVideod`), where rounding differs by less than a gray level.
        allow_missing_keys: as in MONAI.

    Raises:
        DataError: see :func:`custom_apps.echo.video_file.read_video`.
    """

    def __init__(self, keys: KeysCollection = "image", gray: bool = False, allow_missing_keys: bool = False):
        super().__init__(keys, allow_missing_keys)
        self.gray = gray

    def load(self, path: str) -> tuple[np.ndarray, float]:
        """Frames, uint8 (F, H, W, 3) or (F, H, W), and frames per second (NaN if unknown)."""
        video = read_video(path, self.gray)
        return video.frames, video.fps

    def channels_first(self, frames: np.ndarray) -> torch.Tensor:
        """(F, H, W[, C]) as (C, F, H, W), a view."""
        frames = frames[..., None] if frames.ndim == 3 else frames
        return torch.from_numpy(frames).permute(3, 0, 1, 2)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Loads each key."""
        result = dict(data)
        for key in self.key_iterator(result):
            frames, fps = self.load(result[key])
            result[key] = self.channels_first(frames)
            result.setdefault("fps", fps)
        return result


class LoadFrameArrayd(LoadVideod):
    """Replaces the path of a ``.npy`` file by its frames, float32 (C, frames, height, width).

    The array is (frames, 1, height, width) or (frames, height, width), in [0, 1], as in the published preparation of
    CAMUS.

    Raises:
        DataError: no such file, no array, another shape, values that are not finite.
    """

    def load(self, path: str) -> tuple[np.ndarray, float]:
        """Frames, float32 (F, H, W), and NaN: arrays do not tell their frame rate."""
        try:
            frames = np.load(path, allow_pickle=False)
        except FileNotFoundError as error:
            raise DataError(path, "no such file", "a NumPy array") from error
        except (OSError, ValueError, EOFError) as error:
            raise DataError(path, f"is not a readable array ({error})", "a NumPy array") from error
        if frames.ndim == 4 and frames.shape[1] == 1:
            frames = frames[:, 0]
        if frames.ndim != 3 or not frames.size:
            raise DataError(path, f"array of shape {frames.shape}", "(frames, 1, height, width)")
        if not np.isfinite(frames).all():
            raise DataError(path, "values that are not finite", "gray values from 0 to 1")
        return frames.astype(np.float32), float("nan")
