"""Which clips of a video are predicted, and how their predictions become one number for the video."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import nn

from custom_apps.echo.clip_sampling import PADS, SampleClipd, clip_starts, spread_starts, take_frames

ONE_CLIP, SEVERAL_CLIPS, ALL_CLIPS = "one_clip", "several_clips", "all_clips"


class ClipProtocols:
    """The protocols that a video is evaluated by, side by side: one clip, several clips, all clips.

    A clip is ``length`` frames, ``period`` frames apart; it may start at any frame that leaves room for the last one.
    A video with fewer than ``length * period`` frames is first extended to that many.

    Args:
        length: frames of a clip.
        period: step between them.
        clips: starts of ``several_clips``, spread evenly from the first to the last admissible one; None leaves the
            protocol out.
        stride: step between the starts of ``all_clips``; None leaves the protocol out.
        one_clip: whether the clip that starts at frame 0 is a protocol of its own.

    Source: E-ViM3, arXiv 2503.20258 (one clip from frame 0); EchoNet-Dynamic, Ouyang et al. 2020 (all clips, stride 1).
    """

    def __init__(
        self,
        length: int = 64,
        period: int = 2,
        clips: int | None = 5,
        stride: int | None = 1,
        one_clip: bool = True,
    ):
        for name, value in {"length": length, "period": period, "clips": clips, "stride": stride}.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not one_clip and clips is None and stride is None:
            raise ValueError("at least one protocol is needed")
        self.length, self.period, self.clips, self.stride, self.one_clip = length, period, clips, stride, one_clip

    @classmethod
    def of_chain(cls, chain: Compose, length: int, clips: int | None = 5, stride: int | None = 1) -> ClipProtocols:
        """Protocols with the length and period of a chain that cuts clips.

        Args:
            chain: of `custom_apps.echo.chains`. One that cuts nothing, as of CAMUS, has period 1; of several periods
                the first counts.
            length: frames of a clip, for a chain that cuts nothing.
            clips: see above.
            stride: see above.
        """
        for step in chain.transforms:
            if isinstance(step, SampleClipd):
                return cls(step.length, step.periods[0], clips, stride)
        return cls(length, 1, clips, stride)

    @property
    def names(self) -> list[str]:
        """The protocols, from the fewest clips to the most."""
        chosen = {ONE_CLIP: self.one_clip, SEVERAL_CLIPS: self.clips, ALL_CLIPS: self.stride}
        return [name for name, value in chosen.items() if value]

    def title(self, name: str) -> str:
        """A protocol's name for a table."""
        if name == ONE_CLIP:
            return "one clip, from frame 0"
        if name == SEVERAL_CLIPS:
            return f"{self.clips} clips, evenly spread"
        return "all clips" if self.stride == 1 else f"all clips, stride {self.stride}"

    def starts_of(self, name: str, frames: int) -> np.ndarray:
        """First frame of each clip of a protocol; with more clips than starts some come twice."""
        if name == ONE_CLIP:
            return np.zeros(1, np.int64)
        if name == SEVERAL_CLIPS:
            return spread_starts(frames, self.length, self.period, self.clips)
        return clip_starts(frames, self.length, self.period, stride=self.stride)

    def starts(self, frames: int) -> np.ndarray:
        """First frames of the clips of all protocols together, ascending, each once."""
        return np.unique(np.concatenate([self.starts_of(name, frames) for name in self.names]))

    def averages(self, predictions: Sequence[float], frames: int) -> dict[str, float]:
        """One number a protocol for a video.

        Args:
            predictions: one for each of :meth:`starts`.
            frames: of the video.
        """
        by_start = dict(zip(self.starts(frames).tolist(), np.asarray(predictions, np.float64), strict=True))
        return {
            name: float(np.mean([by_start[s] for s in self.starts_of(name, frames).tolist()])) for name in self.names
        }


class ClipInferer(Inferer):
    """Predicts all clips that the protocols ask for of one prepared video, a few at a time.

    Args:
        protocols: which clips.
        batch_size: clips predicted at once; bounds the memory, not the result.
        pad: how a short video is extended: ``loop`` (played again, as E-ViM3 does) or ``zero`` (frames of zeros after
            normalization, as EchoNet-Dynamic does).
    """

    def __init__(self, protocols: ClipProtocols, batch_size: int = 4, pad: str = "loop"):
        super().__init__()
        if pad not in PADS:
            raise ValueError(f"pad must be one of {', '.join(PADS)}, got {pad!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.protocols, self.batch_size, self.pad = protocols, batch_size, pad

    def __call__(self, inputs: torch.Tensor, network: nn.Module, *args: object, **kwargs: object) -> torch.Tensor:
        """Predictions (1, number of starts), in the order of ``protocols.starts(frames)``.

        Args:
            inputs: one whole video (1, C, frames, H, W), normalized.
            network: from clips (B, C, length, H, W) to (B, 1).
            args, kwargs: passed on to the network.

        Raises:
            ValueError: for a batch of several videos.
        """
        if inputs.ndim != 5 or len(inputs) != 1:
            raise ValueError(f"expected one video (1, C, frames, H, W), got shape {tuple(inputs.shape)}")
        starts = self.protocols.starts(inputs.shape[2])
        steps = np.arange(self.protocols.length) * self.protocols.period
        found = []
        for begin in range(0, len(starts), self.batch_size):
            block = starts[begin : begin + self.batch_size]
            clips = take_frames(inputs[0], block[:, None] + steps, self.pad)
            found.append(network(clips, *args, **kwargs).reshape(len(block)).float())
        return torch.cat(found)[None]


def beat_by_beat(
    starts: Sequence[int], predictions: Sequence[float], systoles: Sequence[int], lead: int = 32, tolerance: int = 0
) -> float:
    """Mean of the clips that start ``lead`` frames before each systole, not before frame 0.

    Beats whose clip would not fit into the video, or was not predicted, are left out; NaN when none is left.

    Args:
        starts: first frames of the predicted clips.
        predictions: one for each.
        systoles: frames of end-systole, as detected from the area of the ventricle.
        lead: frames between the start of the clip and the systole.
        tolerance: frames by which the start may be missed, when not every clip was predicted.

    Source: EchoNet-Dynamic, Ouyang et al. 2020 (beat-to-beat evaluation).
    """
    starts, found = np.asarray(starts), []
    for systole in systoles:
        distance = np.abs(starts - max(0, int(systole) - lead))
        if distance.min() <= tolerance:
            found.append(float(predictions[int(distance.argmin())]))
    return float(np.mean(found)) if found else float("nan")
