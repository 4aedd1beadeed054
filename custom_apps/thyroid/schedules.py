"""Learning rates as mmsegmentation sets them."""

from __future__ import annotations

from torch.optim import Optimizer

from custom_apps.common.schedules import StepCountLR


class WarmupPolynomial(StepCountLR):
    """Polynomial fall to zero, multiplied during the first steps by a linear warm-up.

    Args:
        optimizer: its rates at construction are those of the polynomial at step 0.
        steps: number of steps in all; the rate is 0 afterwards.
        warmup_steps: steps of the warm-up, part of ``steps``.
        power: of the polynomial.
        start_ratio: factor of the warm-up at step 0.

    Raises:
        ValueError: for a warm-up longer than the schedule.

    Source: Deblurring MAE, Kang et al. 2023, trained with mmsegmentation's ``poly`` policy.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        warmup_steps: int = 1500,
        power: float = 1.0,
        start_ratio: float = 1e-6,
    ):
        if not 0 <= warmup_steps <= steps:
            raise ValueError(f"{warmup_steps} warm-up steps do not fit into {steps} steps")
        self.steps, self.warmup_steps, self.power, self.start_ratio = int(steps), int(warmup_steps), power, start_ratio
        super().__init__(optimizer)

    def ratio(self, step: int) -> float:
        """Rate relative to that of the optimizer at a step."""
        fall = max(0.0, 1 - step / self.steps) ** self.power
        if step >= self.warmup_steps:
            return fall
        return fall * (1 - (1 - step / self.warmup_steps) * (1 - self.start_ratio))

    def get_lr(self) -> list[float]:
        """Rates of the parameter groups at the current step."""
        return [base * self.ratio(self.last_epoch) for base in self.base_lrs]
