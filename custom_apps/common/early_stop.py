"""Handler that ends a training which no longer gets better."""

from __future__ import annotations

from ignite.engine import Engine, Events


class EarlyStop:
    """Stops a training once its best validation lies too many epochs back.

    It has no memory of its own: it asks the validator for the epoch of its best metric, which
    :class:`~custom_apps.common.checkpoints.TrainingState` restores, so that a resumed training stops where an
    uninterrupted one would. Attach it to the trainer after the handler that validates.

    Args:
        validator: engine with a key metric.
        patience: epochs without a better metric; None never stops.

    Raises:
        ValueError: for a patience below 1.
    """

    def __init__(self, validator: Engine, patience: int | None):
        if patience is not None and patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience}")
        self.validator, self.patience = validator, patience

    def attach(self, engine: Engine) -> None:
        """Registers the handler on a trainer."""
        if self.patience is not None:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Ends the training after this epoch if it is time."""
        best = self.validator.state.best_metric_epoch
        if best < 1 or engine.state.epoch - best < self.patience:
            return
        engine.logger.info(f"no better validation for {self.patience} epochs (best: epoch {best}): training ends")
        engine.terminate()
