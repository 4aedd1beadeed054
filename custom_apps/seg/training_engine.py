"""Training and validation steps of nnU-Net."""

from __future__ import annotations

from typing import Any

from custom_apps.common.training_engine import Evaluator, NonFiniteLossError, Trainer, autocast_dtype

__all__ = ["NonFiniteLossError", "SegmentationEvaluator", "SegmentationTrainer", "autocast_dtype"]


class SegmentationTrainer(Trainer):
    """Trainer with nnU-Net's gradient clipping; an epoch is as long as the data loader.

    Args:
        args, kwargs: of :class:`~custom_apps.common.training_engine.Trainer`; ``accumulation_steps`` must divide the
            length of an epoch.
        clip_norm: largest norm of all gradients together, None for no clipping.

    Source: nnU-Net, Isensee et al. 2021; U-Mamba, arXiv 2401.04722. Deviation: U-Mamba2's published trainer clears the
    gradients after the first batch of each pair, so that only the second counts; here both do.
    """

    def __init__(self, *args: Any, clip_norm: float | None = 12.0, **kwargs: Any):
        super().__init__(*args, clip_norm=clip_norm, **kwargs)
        length = self.state.epoch_length
        if length is not None and length % self.accumulation_steps:
            raise ValueError(f"{self.accumulation_steps} accumulation steps do not divide an epoch of {length}")


class SegmentationEvaluator(Evaluator):
    """Evaluator of images with or without a reference; of several resolutions the first is the prediction."""
