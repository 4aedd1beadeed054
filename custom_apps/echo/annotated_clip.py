"""The stretch of a video between its two traced frames, with their masks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform

from custom_apps.common.errors import DataError
from custom_apps.echo.tracings import TracedPair, lv_mask


class AnnotatedClipd(MapTransform):
    """Cuts a video from its first traced frame to its last and stretches that to ``length`` frames, linearly in time.

    Reads ``tracings`` (a `TracedPair`) and adds ``label``, int64 (2, H, W) masks of end-diastole and end-systole in
    this order, and ``label_frame``, int64 (2,), their places in the clip: 0 or ``length`` − 1. It comes before any
    transform that moves or scales the frames, so that the masks go along.

    Args:
        keys: usually ``image``, floating point (C, F, H, W).
        length: frames of the clip.
        include_end: take the later traced frame in. The published system leaves it out (False), so that its last frame
            is the one before the labeled one.
        allow_missing_keys: as in MONAI.

    Raises:
        DataError: a traced frame beyond the end of the video, or nothing between the two when the end is left out.

    Source: E-ViM3, arXiv 2503.20258.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        length: int = 64,
        include_end: bool = True,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        if length < 2:
            raise ValueError(f"length must be at least 2, got {length}")
        self.length, self.include_end = length, include_end

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """(C, F, H, W) to (C, length, H, W), with labels."""
        result = dict(data)
        pair: TracedPair = result.pop("tracings")
        numbers = [tracing.frame for tracing in pair]
        for key in self.key_iterator(result):
            frames = result[key].shape[1]
            if not 0 <= min(numbers) <= max(numbers) < frames:
                raise DataError(result.get("case", key), f"frames {sorted(numbers)} are traced", f"0 to {frames - 1}")
            end = max(numbers) + self.include_end
            if end == min(numbers):
                raise DataError(result.get("case", key), f"both tracings are of frame {end}", "two different frames")
            size = result[key].shape[-2:]
            result[key] = stretch(result[key][:, min(numbers) : end], self.length)
        result["label"] = torch.from_numpy(np.stack([lv_mask(tracing.rows, size) for tracing in pair])).long()
        diastole_last = pair.end_diastole.frame > pair.end_systole.frame
        result["label_frame"] = torch.tensor([self.length - 1, 0] if diastole_last else [0, self.length - 1])
        return result


def stretch(clip: torch.Tensor, length: int) -> torch.Tensor:
    """(C, F, H, W) resampled linearly to ``length`` frames; the first and the last frame stay."""
    return F.interpolate(clip[None], (length, *clip.shape[-2:]), mode="trilinear", align_corners=True)[0]
