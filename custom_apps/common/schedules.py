"""Learning-rate schedules: warm-up, then a shape; all they store is how many steps are over."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from custom_apps.common.distributed import world_size

WARMUPS: dict[str, Callable[[float], float]] = {
    "none": lambda part: 1.0,
    "constant": lambda part: 0.0,
    "linear": lambda part: part,
    "exponential": lambda part: math.exp(5 * part - 5),
    "cosine": lambda part: 0.5 * (1 - math.cos(math.pi * part)),
}
SHAPES = ("constant", "linear", "cosine", "multistep", "cosine_restart")


class StepCountLR(LRScheduler):
    """Base of schedules whose rates follow from the number of past steps alone.

    PyTorch's schedules store their settings too, so that a resumed run keeps those of the checkpoint. Here only the
    count is stored: lengthening a run changes the curve, as configured. Steps may be epochs, batches or whatever calls
    :meth:`step`, also before the optimizer's first step, as with gradient accumulation.
    """

    def step(self, epoch: int | None = None) -> None:
        """Goes one step further, or to a given one, and sets the rates."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._set_rates()

    def state_dict(self) -> dict[str, Any]:
        """The number of steps that are over."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues after the given number of steps; call it after the optimizer's state was loaded."""
        self.last_epoch = int(state_dict["last_epoch"])
        self._set_rates()

    def _set_rates(self) -> None:
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


class WarmupSchedule(StepCountLR):
    """Warm-up from a low rate to that of the optimizer, then a shape down to a final rate.

    With the relative height ``a`` of warm-up or shape, the rate is ``low + a · (rate - low)``, where ``low`` is
    ``final_ratio`` (in the warm-up ``start_ratio``) times the rate of the parameter group.

    Args:
        optimizer: its rates at construction are the highest.
        steps: number of steps in all; later rates are those of the end.
        warmup_steps: steps of the warm-up, part of ``steps``; a short run may end before it.
        shape: ``constant``; ``linear`` and ``cosine`` fall to the final rate; ``multistep`` multiplies the height by
            ``gamma`` at each milestone; ``cosine_restart`` repeats warm-up and cosine in cycles of ``cycle_steps``,
            each ``cycle_factor`` times longer and ``gamma`` times lower (final rate included) than the one before; it
            warms up from where the cycle before ended.
        warmup: ``linear``, ``cosine``, ``exponential``, ``constant`` (the start rate) or ``none`` (the full rate).
        final_ratio: final rate relative to the highest.
        start_ratio: first rate relative to the highest, None for ``final_ratio``. Masked autoencoders of the MAE family
            start at 0.
        gamma: see ``shape``.
        milestones: steps of ``multistep``.
        cycle: length of the first cycle and factor of ``cosine_restart``.

    Raises:
        ValueError: for an unknown shape or warm-up, or a warm-up that is not shorter than the first cycle.

    Source: E-ViM3, arXiv 2503.20258, whose schedules step with every micro-batch.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        warmup_steps: int = 0,
        shape: str = "cosine",
        warmup: str = "linear",
        final_ratio: float = 0.01,
        start_ratio: float | None = None,
        gamma: float = 0.1,
        milestones: Sequence[int] = (),
        cycle: tuple[int, float] | None = None,
    ):
        if shape not in SHAPES:
            raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}")
        if warmup not in WARMUPS:
            raise ValueError(f"warmup must be one of {', '.join(WARMUPS)}, got {warmup!r}")
        if shape == "cosine_restart" and cycle is None:
            raise ValueError("cosine_restart needs cycle=(steps of the first cycle, factor)")
        if warmup_steps < 0 or (shape == "cosine_restart" and warmup_steps >= cycle[0]):
            raise ValueError(f"{warmup_steps} warm-up steps do not fit")
        self.steps, self.warmup_steps, self.shape, self.warmup = int(steps), int(warmup_steps), shape, warmup
        self.final_ratio = final_ratio
        self.start_ratio = final_ratio if start_ratio is None else start_ratio
        self.gamma, self.milestones, self.cycle = gamma, tuple(milestones), cycle
        super().__init__(optimizer)

    def ratio(self, step: int) -> float:
        """Rate relative to the highest one at a step."""
        if self.shape == "cosine_restart":
            return self._restarted(step)
        if step < self.warmup_steps:
            return self._between(self.start_ratio, WARMUPS[self.warmup](step / self.warmup_steps))
        part = min(1.0, (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        return self._between(self.final_ratio, self._height(step, part))

    def get_lr(self) -> list[float]:
        """Rates of the parameter groups at the current step."""
        return [base * self.ratio(self.last_epoch) for base in self.base_lrs]

    def _height(self, step: int, part: float) -> float:
        if self.shape == "linear":
            return 1 - part
        if self.shape == "cosine":
            return 0.5 * (1 + math.cos(math.pi * part))
        if self.shape == "multistep":
            return self.gamma ** sum(step >= milestone for milestone in self.milestones)
        return 1.0

    def _restarted(self, step: int) -> float:
        length, factor = int(self.cycle[0]), self.cycle[1]
        number = 0
        while step >= length:
            step, length, number = step - length, max(self.warmup_steps + 1, int(length * factor)), number + 1
        top = self.gamma**number
        if step < self.warmup_steps:
            start = self.start_ratio / self.gamma
            return top * self._between(start, WARMUPS[self.warmup](step / self.warmup_steps))
        part = (step - self.warmup_steps) / (length - self.warmup_steps)
        return top * self._between(self.final_ratio, 0.5 * (1 + math.cos(math.pi * part)))

    @staticmethod
    def _between(low: float, height: float) -> float:
        return low + height * (1 - low)


def scaled_learning_rate(
    learning_rate: float, batch_size: int, accumulation_steps: int = 1, reference_batch_size: int | None = None
) -> float:
    """Learning rate in proportion to the batch that one step of the optimizer sees.

    Args:
        learning_rate: rate for a batch of the reference size.
        batch_size: samples of a batch of each process.
        accumulation_steps: batches a step.
        reference_batch_size: None or 0 for no scaling.
    """
    if not reference_batch_size:
        return learning_rate
    return learning_rate * batch_size * accumulation_steps * world_size() / reference_batch_size
