"""Clips put together from equal segments of a video."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from custom_apps.echo.clip_sampling import padded_length, take_frames


def segment_bounds(frames: int, segments: int) -> np.ndarray:
    """Where ``segments`` equal parts of ``frames`` begin and end: ``segments + 1`` frame numbers, rounded."""
    return np.rint(np.linspace(0, frames, segments + 1)).astype(np.int64)


class SegmentClipd(MapTransform, Randomizable):
    """Takes an equal share of the clip's frames from each of ``clips`` equal segments of a video.

    Short videos are repeated until they have ``length · period`` frames. The item also gets ``frame_indices`` and
    ``real_frames``, as of :class:`custom_apps.echo.clip_sampling.SampleClipd`.

    Args:
        keys: usually ``image``, (C, F, H, W).
        length: frames in the result; a multiple of ``clips``.
        period: distance between frames of one segment; of several values one is drawn for each sample.
        clips: number of segments.
        random: a random start in each segment, for training; the middle otherwise.
        allow_missing_keys: as in MONAI.

    Source: E-ViM3 on MICCAI-BUV, arXiv 2503.20258.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        length: int = 64,
        period: int | Sequence[int] = 2,
        clips: int = 1,
        random: bool = True,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.periods = (period,) if isinstance(period, int) else tuple(period)
        if min(length, clips, *self.periods) < 1 or length % clips:
            raise ValueError(f"length ({length}) must be a positive multiple of clips ({clips}) and period at least 1")
        self.length, self.clips, self.random = length, clips, random

    def randomize(self, data: int) -> np.ndarray:
        """Frame numbers (length,) for a video of ``data`` frames."""
        period = self.periods[self.R.randint(len(self.periods))] if len(self.periods) > 1 else self.periods[0]
        each = self.length // self.clips
        bounds = segment_bounds(padded_length(data, self.length, period), self.clips)
        indices = []
        for begin, end in pairwise(bounds):
            room = end - begin - (each - 1) * period
            start = begin + (self.R.randint(room) if self.random else room // 2)
            indices.append(start + period * np.arange(each))
        return np.concatenate(indices)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """(C, F, H, W) to (C, length, H, W)."""
        result = dict(data)
        for key in self.key_iterator(result):
            count = result[key].shape[1]
            indices = self.randomize(count)
            result[key] = take_frames(result[key], indices)
            result["frame_indices"] = torch.from_numpy(indices)
            result["real_frames"] = torch.from_numpy(indices < count)
        return result
