import pytest
from ignite.engine import Engine, Events

from custom_apps.common.early_stop import EarlyStop


def train(best_at, patience, epochs=12):
    """Epochs that are trained when the best validation is that of epoch ``best_at``."""
    trainer, validator = Engine(lambda *_: None), Engine(lambda *_: None)
    validator.state.best_metric_epoch = -1

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        if engine.state.epoch <= best_at:
            validator.state.best_metric_epoch = engine.state.epoch

    ended = []
    trainer.add_event_handler(Events.COMPLETED, lambda: ended.append(True))
    EarlyStop(validator, patience).attach(trainer)
    trainer.run([0], max_epochs=epochs)
    assert ended, "what is done at the end of a training has to be done"
    return trainer.state.epoch


def test_stops_after_epochs_without_a_better_validation():
    assert train(best_at=4, patience=3) == 7
    assert train(best_at=1, patience=1) == 2


def test_goes_on_while_it_gets_better_or_without_patience_or_validation():
    assert train(best_at=12, patience=3) == 12
    assert train(best_at=1, patience=None) == 12
    assert train(best_at=0, patience=3) == 12


def test_patience_below_one():
    with pytest.raises(ValueError, match="at least 1"):
        EarlyStop(Engine(lambda *_: None), 0)
