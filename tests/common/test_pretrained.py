import argparse

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from custom_apps.common.checkpoint_files import save_whole
from custom_apps.common.errors import DataError
from custom_apps.common.pretrained import PretrainedWeights
from custom_apps.common.weight_average import WeightAverage
from custom_networks.published.reading import CheckpointError


def transfer(content, network):
    network.load_state_dict(content)
    return "all of it"


def start(handler, epoch=0):
    engine = Engine(lambda *_: None)
    engine.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "epoch", epoch))
    handler.attach(engine)
    engine.run([0], max_epochs=epoch + 1)


def test_a_new_training_starts_from_the_weights_and_so_does_the_average(tmp_path):
    source, network = nn.Linear(2, 1), nn.Linear(2, 1)
    save_whole(source.state_dict(), tmp_path / "model.pt")
    average = WeightAverage(network)
    start(PretrainedWeights(tmp_path / "model.pt", network, transfer, average))
    assert torch.equal(network.weight, source.weight)
    assert torch.equal(average.network.weight, source.weight)


def test_a_training_that_goes_on_keeps_its_own(tmp_path):
    network = nn.Linear(2, 1)
    before = network.weight.clone()
    start(PretrainedWeights(tmp_path / "gone.pt", network, transfer), epoch=3)
    start(PretrainedWeights(None, network, transfer))
    assert torch.equal(network.weight, before)
    with pytest.raises(DataError, match=r"gone\.pt.*no such file"):
        start(PretrainedWeights(tmp_path / "gone.pt", network, transfer))


def test_checkpoints_of_authors_with_their_command_line_are_read(tmp_path):
    network = torch.nn.Linear(2, 2)
    content = {"model": {"weight": torch.ones(2, 2)}, "args": argparse.Namespace(lr=0.1)}
    torch.save(content, tmp_path / "published.pth")
    given = {}
    start(PretrainedWeights(tmp_path / "published.pth", network, lambda content, _: given.update(content)))
    assert torch.equal(given["model"]["weight"], torch.ones(2, 2))


def test_files_that_are_missing_unsafe_or_unfit_are_named(tmp_path):
    def refuse(content, network):
        raise CheckpointError("does not fit")

    torch.save({"weight": torch.nn.Linear(1, 1)}, tmp_path / "unsafe.pt")
    torch.save({"weight": torch.ones(1)}, tmp_path / "unfit.pt")
    for name, problem in (("missing", "no such file"), ("unsafe", "could run code"), ("unfit", "does not fit")):
        with pytest.raises(DataError, match=rf"{name}\.pt: .*{problem}"):
            start(PretrainedWeights(tmp_path / f"{name}.pt", torch.nn.Linear(1, 1), refuse))
