"""Learning-rate schedules, stepped once per epoch."""

from __future__ import annotations

from torch.optim import Optimizer

from custom_apps.common.schedules import StepCountLR


class PolyLR(StepCountLR):
    """Polynomial decay: ``final + (initial - final) · (1 - epoch / epochs) ** exponent``.

    nnU-Net and U-Mamba: exponent 0.9 down to 0. Linear continuation of U-Mamba2, from a first rate of 1e-3: exponent 1,
    ``epochs`` 499, ``final_lr`` 1e-5. From ``epochs`` on the rate is final.

    PyTorch's ``PolynomialLR`` follows the same curve, but a resumed run would keep the number of epochs of the
    checkpoint.

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
