"""Going back to the best weights when the validation loss jumps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn
from torch.optim import Optimizer

from custom_apps.common.checkpoint_files import load_weights, read_checkpoint, save_whole
from custom_apps.common.distributed import is_main_process, wait_for_all, without_ddp


class SpikeGuard:
    """Handler that undoes a spike of the loss after each validation.

    When the validation loss is at least ``multiplier`` times that at the best epoch, or not finite, network and weight
    average go back to the best epoch and the optimizer (and gradient scaler) forgets its state; learning rate and epoch
    count go on. Attach it to the trainer after the handler that validates. Its memory is part of the training's state:
    give it to :class:`~custom_apps.common.checkpoints.TrainingState`.

    Args:
        path: file for the weights of the best epoch, replaced with each better one.
        network: network that is trained.
        optimizer: its optimizer.
        validator: engine that validates and knows which epoch is the best.
        metric: name of its metric that is the loss of ``network``.
        weight_average: moving average of the weights, None without one.
        multiplier: see above; None switches the guard off.

    Source: E-ViM3, arXiv 2503.20258 (multiplier 1.2 in pre-training). Deviation: there a spike cannot become the best
    epoch; here the validator decides that before.
    """

    def __init__(
        self,
        path: str | Path,
        network: nn.Module,
        optimizer: Optimizer,
        validator: Engine,
        metric: str,
        weight_average: Any = None,
        multiplier: float | None = 1.2,
    ):
        if multiplier is not None and multiplier <= 1:
            raise ValueError(f"multiplier must be above 1, got {multiplier}")
        self.path, self.network, self.optimizer, self.validator = Path(path), network, optimizer, validator
        self.metric, self.weight_average, self.multiplier = metric, weight_average, multiplier
        self.best_loss, self.rollbacks = math.inf, 0

    def attach(self, engine: Engine) -> None:
        """Registers the handler on a trainer."""
        if self.multiplier is not None:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Judges the last validation, if there was one in this epoch."""
        validated = self.validator.state
        if validated.epoch != engine.state.epoch:
            return
        loss = float(validated.metrics[self.metric])
        if not math.isfinite(loss) or loss >= self.multiplier * self.best_loss:
            self._roll_back(engine, loss)
        elif validated.best_metric_epoch == engine.state.epoch:
            self.best_loss = loss
            self._save()

    def _save(self) -> None:
        if is_main_process():
            average = {} if self.weight_average is None else {"average": self.weight_average.state_dict()}
            save_whole({"network": without_ddp(self.network).state_dict(), **average}, self.path)

    def _roll_back(self, engine: Engine, loss: float) -> None:
        self.rollbacks += 1
        best = f"{self.best_loss:.6g} at the best epoch"
        if not math.isfinite(self.best_loss):
            engine.logger.warning(f"{self.metric} is {loss:.6g} and there is no better epoch to go back to")
            return
        wait_for_all()
        content = read_checkpoint(self.path)
        load_weights(self.network, content["network"], self.path)
        if self.weight_average is not None:
            self.weight_average.load_state_dict(content["average"])
        self.optimizer.state.clear()
        if getattr(engine, "scaler", None) is not None:
            engine.new_scaler()
        engine.logger.warning(
            f"{self.metric} jumped to {loss:.6g} from {best}: weights are back there, the optimizer starts anew"
        )

    def state_dict(self) -> dict[str, Any]:
        """Loss of the best epoch and number of times that the guard acted."""
        return {"best_loss": self.best_loss, "rollbacks": self.rollbacks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a stored state."""
        self.best_loss, self.rollbacks = float(state_dict["best_loss"]), int(state_dict["rollbacks"])
