import pytest
import torch
from ignite.engine import Engine
from torch import nn

from custom_apps.common.errors import DataError
from custom_apps.common.fold_weights import FoldWeights


def run(handler: FoldWeights, network: nn.Module, folds: list[list[int]]) -> list[float]:
    """What the network gives for each batch of cases of these folds."""
    seen = []
    engine = Engine(lambda _engine, batch: seen.append(network(torch.ones(1, 1)).item()))
    handler.attach(engine)
    engine.run([{"fold": torch.tensor(batch)} for batch in folds])
    return seen


@pytest.fixture
def network(tmp_path) -> nn.Module:
    network = nn.Linear(1, 1, bias=False)
    for fold in range(3):
        (tmp_path / f"fold_{fold}").mkdir()
        torch.save({"weight": torch.full((1, 1), 10.0 + fold)}, tmp_path / f"fold_{fold}" / "model.pt")
    return network


def test_every_case_is_predicted_by_the_model_of_its_fold(network, tmp_path):
    handler = FoldWeights(tmp_path / "fold_{fold}" / "model.pt", network)
    assert run(handler, network, [[0], [0, 0], [2], [1], [0]]) == [10, 10, 12, 11, 10]


def test_files_are_read_only_when_the_fold_changes(network, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        "custom_apps.common.fold_weights.read_checkpoint",
        lambda path: read.append(path) or torch.load(path, weights_only=True),
    )
    run(FoldWeights(tmp_path / "fold_{fold}" / "model.pt", network), network, [[1], [1], [2], [2]])
    assert [path.split("fold_")[1][0] for path in read] == ["1", "2"]


def test_batches_of_several_folds_and_missing_or_foreign_models_are_refused(network, tmp_path):
    path = tmp_path / "fold_{fold}" / "model.pt"
    with pytest.raises(ValueError, match="folds \\[0, 1\\]"):
        run(FoldWeights(path, network), network, [[0, 1]])
    with pytest.raises(DataError, match="fold_7"):
        run(FoldWeights(path, network), network, [[7]])
    with pytest.raises(DataError, match="another network"):
        run(FoldWeights(path, nn.Linear(2, 1)), network, [[0]])
