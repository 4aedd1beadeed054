"""Test-time averaging over scales and mirrored images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.inferers import SlidingWindowInferer


class ScaledWindowInferer(SlidingWindowInferer):
    """Sliding windows over an image at several scales, and mirrored from left to right if wanted.

    Probabilities of all views are averaged at the size of the input; their logarithm is given back, so that a soft-max
    (of one channel: a sigmoid) of the result is the average. A single view gives the logits as they are.

    Args:
        scales: factors of the input's height and width; images that become smaller than a window are padded.
        flip: also the mirrored image of every scale.
        **windows: see `monai.inferers.SlidingWindowInferer`.

    Raises:
        ValueError: without scales, or with one that is not positive.

    Source: test-time augmentation of mmsegmentation, with scales from 0.5 to 1.75, as in the publication.
    Deviation: scales are taken of the resized and normalized image (bilinear with antialiasing), not of the file.
    """

    def __init__(self, scales: Sequence[float] = (1.0,), flip: bool = False, **windows: Any):
        if not scales or any(not scale > 0 for scale in scales):
            raise ValueError(f"scales must be positive numbers, one at least, got {list(scales)}")
        super().__init__(**windows)
        self.scales, self.flip = tuple(scales), flip

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Images (B, C, h, w) to logits (B, K, h, w)."""

        def windows(images: torch.Tensor) -> torch.Tensor:
            return super(ScaledWindowInferer, self).__call__(images, network, *args, **kwargs)

        if self.scales == (1.0,) and not self.flip:
            return windows(inputs)
        size = tuple(inputs.shape[-2:])
        views = []
        for scale in self.scales:
            scaled_size = [max(1, round(side * scale)) for side in size]
            images = _resized(inputs, scaled_size)
            views.append(_probabilities(_resized(windows(images), size)))
            if self.flip:
                views.append(_probabilities(_resized(windows(images.flip(-1)).flip(-1), size)))
        mean = torch.stack(views).mean(dim=0)
        return torch.logit(mean, eps=1e-7) if mean.shape[1] == 1 else mean.clamp(min=1e-7).log()


def _probabilities(logits: torch.Tensor) -> torch.Tensor:
    return logits.float().sigmoid() if logits.shape[1] == 1 else logits.float().softmax(dim=1)


def _resized(images: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    antialias = images.shape[-1] > size[-1]
    return F.interpolate(images.float(), tuple(size), mode="bilinear", align_corners=False, antialias=antialias)
