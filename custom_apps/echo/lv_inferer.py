"""Masks of the left ventricle in every frame of a video of any length."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.inferers import Inferer, SlidingWindowInferer
from torch import nn


class VentricleInferer(Inferer):
    """Runs a segmenter of clips over a whole video in overlapping windows and averages their logits.

    A segmenter that was trained on the stretch between end-diastole and end-systole, about a third of a beat drawn out
    to a whole clip, has seen the heart in slow motion. ``window_frames`` frames of the video are therefore drawn out
    (or, if there are more of them, squeezed) to the length of a clip, linearly in time, and the logits back again.

    Args:
        length: frames of the network's clips.
        window_frames: frames of the video that become a clip; None for ``length``, which stretches nothing.
        overlap: share of a window that the next one covers again.
        batch_size: windows predicted at once; bounds the memory, not the result.
        output_device: where the logits of the video are collected; by default where the video is.
    """

    def __init__(
        self,
        length: int = 64,
        window_frames: int | None = 32,
        overlap: float = 0.5,
        batch_size: int = 2,
        output_device: torch.device | str | None = None,
    ):
        super().__init__()
        self.length = length
        self.window_frames = length if window_frames is None else window_frames
        if self.window_frames < 2:
            raise ValueError(f"window_frames must be at least 2, got {window_frames}")
        self.overlap, self.batch_size, self.output_device = overlap, batch_size, output_device

    def __call__(self, inputs: torch.Tensor, network: nn.Module, *args: object, **kwargs: object) -> torch.Tensor:
        """Label map (1, 1, frames, H, W), uint8, 1 inside of the ventricle.

        Args:
            inputs: one whole video (1, C, frames, H, W), normalized. One that is shorter than a window is continued
                with its last frame.
            network: from clips (B, C, length, H, W) to logits (B, 2, length, H, W).
            args, kwargs: passed on to the network.

        Raises:
            ValueError: for a batch of several videos.
            FloatingPointError: for logits that are not finite.
        """
        if inputs.ndim != 5 or len(inputs) != 1:
            raise ValueError(f"expected one video (1, C, frames, H, W), got shape {tuple(inputs.shape)}")
        frames, size = inputs.shape[2], inputs.shape[3:]
        missing = self.window_frames - frames
        if missing > 0:
            inputs = torch.cat([inputs, inputs[:, :, -1:].expand(-1, -1, missing, -1, -1)], 2)
        windows = SlidingWindowInferer(
            roi_size=(self.window_frames, *size),
            sw_batch_size=self.batch_size,
            overlap=(self.overlap, 0, 0),
            mode="constant",
            device=self.output_device,
        )
        margin = windows(inputs, lambda clips: self._margin(network(self._stretched(clips), *args, **kwargs), size))
        if not torch.isfinite(margin).all():
            raise FloatingPointError("logits are not finite; run in float32 or bfloat16")
        return (margin[:, :, :frames] > 0).to(torch.uint8)

    def _stretched(self, clips: torch.Tensor) -> torch.Tensor:
        return _in_time(clips, self.length)

    def _margin(self, logits: torch.Tensor, size: torch.Size) -> torch.Tensor:
        """Logit of the ventricle minus that of the background, as many frames as the window and as large as the video.

        Rows and columns behind the last whole patch have no logits and are background.
        """
        margin = _in_time(logits[:, 1:2].float() - logits[:, :1].float(), self.window_frames)
        return F.pad(margin, (0, size[1] - margin.shape[4], 0, size[0] - margin.shape[3]), value=-1.0)


def _in_time(clips: torch.Tensor, frames: int) -> torch.Tensor:
    """(B, C, F, H, W) resampled linearly to another number of frames; the first and the last frame stay."""
    if clips.shape[2] == frames:
        return clips
    return F.interpolate(clips, (frames, *clips.shape[3:]), mode="trilinear", align_corners=True)
