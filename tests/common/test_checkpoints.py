import os
import signal
import subprocess
import sys

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from custom_apps.common.checkpoint_files import read_checkpoint, save_whole
from custom_apps.common.checkpoints import BestModelSaver, ModelLoader, TrainingState
from custom_apps.common.errors import DataError
from custom_apps.seg.schedules import PolyLR

EPOCHS, LENGTH = 5, 3


class Average:
    """A metric with a memory."""

    def __init__(self):
        self.value = 0.0

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


class Training:
    """A regression whose batches are a function of epoch and iteration, with a validator of scripted scores."""

    def __init__(self, folder, resume="auto", scores=(1, 3, 2, 5, 4, 6), width=4, every=1, die_at=None):
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9)
        self.schedule, self.average = PolyLR(self.optimizer, EPOCHS), Average()
        self.validator, self.trainer = Engine(lambda *_: None), Engine(self.step)
        self.validator.state.best_metric = self.validator.state.best_metric_epoch = -1
        self.scores, self.losses, self.die_at = scores, [], die_at
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.schedule.step())
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self.validate)
        # The schedule comes first: loading the optimiser afterwards would undo its rate.
        objects = {"schedule": self.schedule, "network": self.network, "optimizer": self.optimizer}
        self.state = TrainingState(
            folder / "last.pt", objects | {"average": self.average}, self.validator, resume, every
        )
        self.state.attach(self.trainer)
        self.validator.add_event_handler(Events.EPOCH_COMPLETED, self.compare)
        BestModelSaver(folder / "model.pt", self.network).attach(self.validator)

    def step(self, engine, _):
        epoch, iteration = engine.state.epoch, engine.state.iteration
        if (epoch, iteration % LENGTH) == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        generator = torch.Generator().manual_seed(1000 * epoch + iteration)
        x = torch.randn(8, 3, generator=generator)
        loss = (self.network(x) - x.sum(1, keepdim=True)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.losses.append((epoch, iteration, self.optimizer.param_groups[0]["lr"], float(loss)))

    def validate(self, engine):
        self.average.value = 0.9 * self.average.value + engine.state.epoch
        self.validator.state.max_epochs, self.validator.state.epoch = engine.state.epoch, engine.state.epoch - 1
        self.validator.state.epoch_length = 1
        self.validator.run([0], max_epochs=engine.state.epoch)

    def compare(self, engine):
        score = self.scores[engine.state.epoch - 1]
        if score > engine.state.best_metric:
            engine.state.best_metric, engine.state.best_metric_epoch = score, engine.state.epoch

    def run(self, epochs=EPOCHS):
        self.trainer.run([0] * LENGTH, max_epochs=epochs)
        return self


def stop_after(training, epoch):
    """Ends a run like a kill at the beginning of the following epoch."""

    @training.trainer.on(Events.EPOCH_STARTED)
    def stop(engine):
        if engine.state.epoch == epoch + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.run()
    return training


def test_a_killed_process_goes_on_exactly(tmp_path):
    whole = Training(tmp_path / "whole").run()
    killed = tmp_path / "killed"
    script = (
        "from pathlib import Path; from tests.common.test_checkpoints import Training; "
        f"Training(Path({str(killed)!r}), die_at=(3, 2)).run()"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert read_checkpoint(killed / "last.pt")["epoch"] == 2
    resumed = Training(killed).run()
    assert resumed.losses == whole.losses[2 * LENGTH :]
    for ours, theirs in zip(resumed.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert resumed.average.value == whole.average.value
    assert resumed.validator.state.best_metric == whole.validator.state.best_metric == 5
    best = [read_checkpoint(folder / "model.pt") for folder in (tmp_path / "whole", killed)]
    assert all(torch.equal(best[0][key], best[1][key]) for key in best[0])
    assert sorted(file.name for file in killed.iterdir()) == ["last.pt", "model.pt"]


def test_a_worse_model_after_resuming_does_not_replace_the_best(tmp_path):
    stop_after(Training(tmp_path, scores=(1, 9, 2, 3, 4)), 2)
    best = read_checkpoint(tmp_path / "model.pt")
    Training(tmp_path, scores=(1, 9, 2, 3, 4)).run()
    kept = read_checkpoint(tmp_path / "model.pt")
    assert all(torch.equal(kept[key], best[key]) for key in best)


def test_a_finished_run_does_nothing_and_can_be_prolonged(tmp_path):
    Training(tmp_path).run()
    before = (tmp_path / "last.pt").read_bytes()
    again = Training(tmp_path).run()
    assert again.losses == []
    assert (tmp_path / "last.pt").read_bytes() == before
    longer = Training(tmp_path).run(EPOCHS + 1)
    assert [epoch for epoch, *_ in longer.losses] == [EPOCHS + 1] * LENGTH
    assert longer.validator.state.best_metric_epoch == 6


def test_every_nth_epoch_and_the_last_are_saved(tmp_path):
    stop_after(Training(tmp_path, every=2), 3)
    assert read_checkpoint(tmp_path / "last.pt")["epoch"] == 2
    Training(tmp_path, every=2).run()
    assert read_checkpoint(tmp_path / "last.pt")["epoch"] == EPOCHS


@pytest.mark.parametrize("resume", ["false", "True", "", None, 1, 0])
def test_other_values_of_resume_are_refused(tmp_path, resume):
    with pytest.raises(ValueError, match="resume must be"):
        TrainingState(tmp_path / "last.pt", {}, resume=resume)


def test_starting_anew_keeps_the_old_files(tmp_path):
    Training(tmp_path).run()
    old = {name: (tmp_path / name).read_bytes() for name in ("last.pt", "model.pt")}
    anew = Training(tmp_path, resume=False).run()
    assert len(anew.losses) == EPOCHS * LENGTH
    assert (tmp_path / "last.1.pt").read_bytes() == old["last.pt"]
    assert (tmp_path / "model.1.pt").read_bytes() == old["model.pt"]
    assert (tmp_path / "last.pt").exists()
    assert (tmp_path / "model.pt").exists()


def test_resume_true_requires_a_file(tmp_path):
    with pytest.raises(DataError, match=r"last\.pt: no such file"):
        Training(tmp_path, resume=True).run()


def test_the_state_of_another_network_is_refused(tmp_path):
    stop_after(Training(tmp_path), 2)
    before = (tmp_path / "last.pt").read_bytes()
    other = Training(tmp_path, width=7)
    with pytest.raises(DataError, match=r"last\.pt: belongs to another network: .*0\.weight \(4, 3\) instead of"):
        other.run()
    assert other.losses == []
    assert (tmp_path / "last.pt").read_bytes() == before
    assert not (tmp_path / "last.1.pt").exists()


def test_states_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "last.pt"
    stop_after(Training(tmp_path), 2)
    content = read_checkpoint(path)
    lacking = content | {"objects": {k: v for k, v in content["objects"].items() if k != "average"}}
    save_whole(lacking, path)
    with pytest.raises(DataError, match="lacks the state of average"):
        Training(tmp_path).run()
    content["objects"]["optimizer"]["param_groups"] *= 2
    save_whole(content, path)
    with pytest.raises(DataError, match="state of 'optimizer' does not fit"):
        Training(tmp_path).run()
    save_whole({"weights": torch.zeros(2)}, path)
    with pytest.raises(DataError, match="no training state"):
        Training(tmp_path).run()


def test_the_best_model_is_flat_and_loads(tmp_path):
    training = Training(tmp_path).run()
    weights = read_checkpoint(tmp_path / "model.pt")
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    fresh = Training(tmp_path / "other").network
    assert not torch.equal(fresh[0].weight, weights["0.weight"])
    engine = Engine(lambda *_: None)
    ModelLoader(tmp_path / "model.pt", fresh).attach(engine)
    engine.run([0])
    assert torch.equal(fresh[0].weight, weights["0.weight"])
    assert not torch.equal(fresh[0].weight, training.network[0].weight), "the best epoch is not the last"


@pytest.mark.parametrize("width", [None, 9])
def test_loading_a_model_that_is_missing_or_other(tmp_path, width):
    if width:
        save_whole(nn.Sequential(nn.Linear(3, width)).state_dict(), tmp_path / "model.pt")
    engine = Engine(lambda *_: None)
    ModelLoader(tmp_path / "model.pt", nn.Sequential(nn.Linear(3, 4))).attach(engine)
    with pytest.raises(DataError, match=r"model\.pt: (no such file|belongs to another network)"):
        engine.run([0])
