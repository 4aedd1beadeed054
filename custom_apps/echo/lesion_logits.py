"""Which output of the lesion classifier stands for the video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def video_logit(pred: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    """The logit of the whole video, of a network with or without frame branch."""
    return pred if isinstance(pred, torch.Tensor) else pred[0]


def mean_frame_logit(pred: Any) -> torch.Tensor:
    """Mean of the logits of all frames, (1,).

    Raises:
        ValueError: for a network without frame branch.

    Source: E-ViM3, arXiv 2503.20258.
    """
    if isinstance(pred, torch.Tensor):
        raise ValueError("the network gives no logits of frames; it needs frame_branch: true")
    return pred[1].float().mean().reshape(1)
