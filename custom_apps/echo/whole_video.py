"""Whole videos for evaluation and inference, prepared exactly as the clips that a network was trained on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import Compose, EnsureTyped, MapTransform, NormalizeIntensityd, Transform

from custom_apps.common.errors import DataError
from custom_apps.echo.annotated_clip import AnnotatedClipd
from custom_apps.echo.clip_sampling import SampleClipd
from custom_apps.echo.frames import GrayVideod, ResizeFramesd, SmoothFramesd
from custom_apps.echo.loading import LoadVideod
from custom_apps.echo.segment_clip import SegmentClipd
from custom_apps.echo.tracings import TracedPair, lv_mask

FRAME_BY_FRAME = (GrayVideod, SmoothFramesd, ResizeFramesd, NormalizeIntensityd, EnsureTyped)


def uncut(chain: Compose) -> Compose:
    """The chain without the step that cuts clips out of videos, so that every frame comes out.

    Args:
        chain: of `custom_apps.echo.chains`, with ``training=False``. A step that cuts between traced frames becomes one
            that only draws their masks, see :class:`AnnotatedVideod`.

    Returns:
        A chain of the same further steps, whose items also have ``frame_size``, int64 (height, width) of the file. What
        is done frame by frame is done in blocks, so that large videos need little memory besides their own.
    """
    load, *steps = chain.transforms
    if not isinstance(load, LoadVideod):
        raise ValueError(f"the chain begins with {type(load).__name__}, expected LoadVideod")
    traced = [AnnotatedVideod(step.keys) for step in steps if isinstance(step, AnnotatedClipd)]
    steps = [step for step in steps if not isinstance(step, (AnnotatedClipd, SampleClipd, SegmentClipd))]
    if all(isinstance(step, FRAME_BY_FRAME) for step in steps):
        steps = [FrameBlocksd(load.keys, steps)]
    return Compose([load, FrameSized(load.keys), *traced, *steps])


class FrameBlocksd(MapTransform):
    """Applies steps to a few frames of a video at a time; the result is that of all frames at once.

    Args:
        keys: one key, usually ``image``, (C, F, H, W). Other entries of the item go through the steps with every block
            and come from the first.
        steps: transforms that treat every frame alike.
        frames: of a block.
    """

    def __init__(self, keys: KeysCollection, steps: Sequence[Transform], frames: int = 32):
        super().__init__(keys)
        self.steps, self.frames = Compose(steps), frames

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Item with the treated video."""
        (key,) = self.keys
        blocks = [self.steps({**data, key: block}) for block in data[key].split(self.frames, dim=1)]
        return {**blocks[0], key: torch.cat([block[key] for block in blocks], 1)}


class AnnotatedVideod(MapTransform):
    """Adds the masks of the traced frames to a whole video; items without ``tracings`` pass.

    ``label`` is int64 (2, H, W), masks of end-diastole and end-systole in this order, and ``label_frame`` int64 (2,),
    their frame numbers.

    Raises:
        DataError: a traced frame beyond the end of the video.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Adds the labels."""
        result = dict(data)
        pair: TracedPair | None = result.pop("tracings", None)
        if pair is None:
            return result
        numbers = [tracing.frame for tracing in pair]
        for key in self.key_iterator(result):
            frames, size = result[key].shape[1], result[key].shape[-2:]
            if not 0 <= min(numbers) <= max(numbers) < frames:
                raise DataError(result.get("case", key), f"frames {sorted(numbers)} are traced", f"0 to {frames - 1}")
            result["label"] = torch.from_numpy(np.stack([lv_mask(tracing.rows, size) for tracing in pair])).long()
            result["label_frame"] = torch.tensor(numbers)
        return result


class FrameSized(MapTransform):
    """Adds ``frame_size``, int64 (height, width), of a video (C, F, H, W)."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Adds the size."""
        result = dict(data)
        for key in self.key_iterator(result):
            result["frame_size"] = torch.tensor(result[key].shape[-2:])
        return result


def normalization(chain: Compose) -> tuple[float, float]:
    """Mean and standard deviation of gray values, from 0 to 1, that a chain normalizes by.

    Raises:
        ValueError: if it has no ``NormalizeIntensityd`` with given numbers.
    """
    for step in chain.transforms:
        if isinstance(step, NormalizeIntensityd) and step.normalizer.subtrahend is not None:
            return float(step.normalizer.subtrahend), float(step.normalizer.divisor)
    raise ValueError("the chain does not normalize by given numbers")
