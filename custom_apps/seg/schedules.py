"""Learning-rate schedules, stepped once per epoch."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class PolyLR(LRScheduler):
    """Polynomial decay: ``final + (initial - final) · (1 - epoch / epochs) ** exponent``.

    nnU-Net and U-Mamba: exponent 0.9 down to 0. Linear continuation of U-Mamba2, from a first rate of 1e-3: exponent 1,
    ``epochs`` 499, ``final_lr`` 1e-5. From ``epochs`` on the rate is final.

    PyTorch's ``PolynomialLR`` follows the same curve, but a resumed run would keep the number of epochs of the
    checkpoint. Here only the count of past epochs is stored: lengthening a run changes the curve, as configured.

    Args:
        optimizer: optimiser whose rates are set.
        epochs: number of epochs until the rate is final.
        exponent: power of the decay.
        final_lr: rate at the end.
    """

    def __init__(self, optimizer: Optimizer, epochs: int, exponent: float = 0.9, final_lr: float = 0.0):
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}")
        self.epochs, self.exponent, self.final_lr = epochs, exponent, final_lr
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """Rates of the parameter groups in the current epoch."""
        left = max(0.0, 1 - self.last_epoch / self.epochs) ** self.exponent
        return [self.final_lr + (initial - self.final_lr) * left for initial in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """The number of epochs that are over."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues after the given number of epochs; call it after the optimiser's state was loaded."""
        self.last_epoch = int(state_dict["last_epoch"])
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate
