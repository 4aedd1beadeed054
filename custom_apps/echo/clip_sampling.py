"""Clips of a fixed number of frames from videos of any length."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from custom_apps.common.errors import DataError

STARTS = ("random", "first", "spread", "all")
PADS = ("loop", "zero")


def padded_length(frames: int, length: int, period: int, time_pad: int = 0) -> int:
    """Frames of a video after it is looped or padded so that a clip fits: at least ``length · period + time_pad``."""
    return max(frames, length * period + time_pad)


def clip_starts(frames: int, length: int, period: int, time_pad: int = 0, stride: int = 1) -> np.ndarray:
    """Every frame at which a clip may start, each ``stride``-th of them.

    Args:
        frames: length of the video, before padding.
        length: frames in a clip.
        period: distance between its frames.
        time_pad: frames that are added when a video is looped.
        stride: 1 for all.
    """
    return np.arange(0, padded_length(frames, length, period, time_pad) - (length - 1) * period, stride)


def spread_starts(frames: int, length: int, period: int, clips: int, time_pad: int = 0) -> np.ndarray:
    """``clips`` starts from the first admissible to the last, evenly spaced and rounded down."""
    last = padded_length(frames, length, period, time_pad) - (length - 1) * period - 1
    return np.linspace(0, last, clips).astype(np.int64)


def take_frames(video: torch.Tensor, indices: np.ndarray, pad: str = "loop") -> torch.Tensor:
    """Frames of a video, where indices beyond its end start again (``loop``) or mean zeros (``zero``).

    Args:
        video: (C, F, H, W).
        indices: frame numbers of any shape (…, L).
        pad: see above.

    Returns:
        (…, C, L, H, W).
    """
    frames = video.shape[1]
    clip = video[:, torch.from_numpy(indices % frames)]
    if pad == "zero" and (indices >= frames).any():
        clip[:, torch.from_numpy(indices >= frames)] = 0
    return clip.movedim(0, -4)


class SampleClipd(MapTransform, Randomizable):
    """Cuts one or several clips of ``length`` frames, every ``period``-th frame, out of a video.

    A video shorter than ``length · period`` is repeated from its start (``loop``, as in E-ViM3) or followed by zeros
    (``zero``, as in EchoNet-Dynamic; the transform then belongs after the normalization). The item also gets
    ``frame_indices``, int64 numbers of the frames taken, counted on beyond the end of a short video, and
    ``real_frames``, bool, False for frames beyond the end.

    Args:
        keys: usually ``image``, (C, F, H, W).
        length: frames in a clip.
        period: distance between its frames; of several values one is drawn for each sample.
        start: ``random`` or ``first`` for one clip (C, L, H, W); ``spread`` for ``clips`` evenly spaced ones and
            ``all`` for every admissible start, (k, C, L, H, W).
        clips: number of clips for ``spread``; with 1 there is no clip axis.
        pad: ``loop`` or ``zero``.
        time_pad: frames added to the length that short videos are looped to, for training.
        stride: distance of the starts for ``all``.
        allow_missing_keys: as in MONAI.

    Source: E-ViM3, arXiv 2503.20258; ``all`` is the test protocol of EchoNet-Dynamic, Ouyang et al. 2020.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        length: int = 64,
        period: int | Sequence[int] = 2,
        start: str = "random",
        clips: int = 1,
        pad: str = "loop",
        time_pad: int = 0,
        stride: int = 1,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        if start not in STARTS or pad not in PADS:
            raise ValueError(f"start must be one of {STARTS} and pad one of {PADS}, got {start!r} and {pad!r}")
        self.periods = (period,) if isinstance(period, int) else tuple(period)
        if min(length, clips, stride, *self.periods) < 1 or time_pad < 0:
            raise ValueError("length, period, clips and stride must be at least 1 and time_pad not negative")
        self.length, self.start, self.clips = length, start, clips
        self.pad, self.time_pad, self.stride = pad, time_pad, stride

    def randomize(self, data: int) -> np.ndarray:
        """Frame numbers (L,) or (k, L) for a video of ``data`` frames."""
        period = self.periods[self.R.randint(len(self.periods))] if len(self.periods) > 1 else self.periods[0]
        if self.start == "spread":
            starts = spread_starts(data, self.length, period, self.clips, self.time_pad)
        elif self.start == "first":
            starts = np.zeros(1, np.int64)
        else:
            stride = self.stride if self.start == "all" else 1
            starts = clip_starts(data, self.length, period, self.time_pad, stride)
            if self.start == "random":
                starts = starts[[self.R.randint(len(starts))]]
        indices = starts[:, None] + period * np.arange(self.length)
        single = self.start in ("random", "first") or (self.start == "spread" and self.clips == 1)
        return indices[0] if single else indices

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Cuts the same frames out of each key."""
        result = dict(data)
        frames = {result[key].shape[1] for key in self.key_iterator(result)}
        if len(frames) != 1 or not min(frames):
            raise DataError(result.get("case", "video"), f"videos of {sorted(frames)} frames", "one length, not 0")
        count = frames.pop()
        indices = self.randomize(count)
        for key in self.key_iterator(result):
            result[key] = take_frames(result[key], indices, self.pad)
        result["frame_indices"] = torch.from_numpy(indices)
        result["real_frames"] = torch.from_numpy(indices < count)
        return result
