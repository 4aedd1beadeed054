import math

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from custom_apps.common.spike_guard import SpikeGuard
from custom_apps.common.weight_average import WeightAverage


class Run:
    """A training of one weight whose value and validation losses are given."""

    def __init__(self, path, losses, ema=True, **options):
        self.network = nn.Linear(1, 1, bias=False)
        self.average = WeightAverage(self.network, update_after_step=0, update_every=1) if ema else None
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.1)
        self.validator = Engine(lambda *_: None)
        self.validator.state.best_metric, self.validator.state.best_metric_epoch = math.inf, -1
        self.guard = SpikeGuard(path, self.network, self.optimizer, self.validator, "mse_loss", self.average, **options)
        self.losses, self.trainer, self.weights = losses, Engine(lambda *_: None), []
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self.epoch)
        self.guard.attach(self.trainer)
        weight = self.network.weight
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: self.weights.append(weight.item()))

    def epoch(self, engine):
        epoch = engine.state.epoch
        nn.init.constant_(self.network.weight, float(epoch))
        self.network(torch.ones(1, 1)).sum().backward()
        self.optimizer.step()
        nn.init.constant_(self.network.weight, float(epoch))
        if self.average:
            self.average.update()
        loss, state = self.losses[epoch - 1], self.validator.state
        if loss is not None:
            state.epoch, state.metrics = epoch, {"mse_loss": loss}
            if loss < state.best_metric:
                state.best_metric, state.best_metric_epoch = loss, epoch

    def run(self):
        self.trainer.run([0], max_epochs=len(self.losses))
        return self.weights


def test_a_spike_goes_back_to_the_best_epoch(tmp_path):
    run = Run(tmp_path / "rollback.pt", [1.0, 0.5, 0.59, 0.61])
    averages = []
    run.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: averages.append(run.average.network.weight.item()))
    assert run.run() == [1.0, 2.0, 3.0, 2.0]
    assert averages[3] == averages[1]
    assert run.average.step == 2
    assert not run.optimizer.state
    assert run.guard.state_dict() == {"best_loss": 0.5, "rollbacks": 1}


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_a_spike(tmp_path, loss):
    assert Run(tmp_path / "rollback.pt", [1.0, loss], ema=False).run() == [1.0, 1.0]


def test_without_validation_nothing_is_judged(tmp_path):
    assert Run(tmp_path / "rollback.pt", [1.0, None, 1.1]).run() == [1.0, 2.0, 3.0]


def test_memory_survives_an_interruption(tmp_path):
    first = Run(tmp_path / "rollback.pt", [1.0])
    first.run()
    second = Run(tmp_path / "rollback.pt", [9.0])
    second.guard.load_state_dict(first.guard.state_dict())
    assert second.run() == [1.0]


def test_switched_off(tmp_path):
    assert Run(tmp_path / "rollback.pt", [1.0, 9.0], multiplier=None).run() == [1.0, 2.0]
    assert not (tmp_path / "rollback.pt").exists()
    with pytest.raises(ValueError, match="above 1"):
        Run(tmp_path / "rollback.pt", [1.0], multiplier=1.0)


def test_first_epoch_that_is_not_finite_leaves_a_message(tmp_path, caplog):
    run = Run(tmp_path / "rollback.pt", [math.nan])
    with caplog.at_level("WARNING"):
        assert run.run() == [1.0]
    assert "no better epoch" in caplog.text
