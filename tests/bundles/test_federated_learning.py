"""Federated learning: MONAI's client trains a bundle in rounds from the weights that the server sends."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, ModelType, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from custom_apps.seg.phantom_ct import write_ct_phantom
from tests.bundles.bundle_cli import ROOT


@pytest.fixture
def client(tmp_path):
    data = write_ct_phantom(tmp_path, cases=5, test_cases=1, shape=(16, 24, 24))
    options = {
        "dataset_dir": str(data),
        "prepared_dir": str(tmp_path / "prepared"),
        "ckpt_dir": str(tmp_path / "models"),
        "output_dir": str(tmp_path / "eval"),
        "plan_overrides": {"batch_size": 2, "patch_size": [16, 24, 24], "first_features": 4},
        "iterations": 3,
        "val_iterations": 2,
        "val_interval": 1,
    }
    configs = ["configs/train.yaml", "configs/demo.yaml"]
    algo = MonaiAlgo(
        bundle_root="bundles/umamba_seg",
        local_epochs=1,
        config_train_filename=configs,
        config_evaluate_filename=configs,
        train_kwargs=dict(options),
        # The client loads the weights and asks for the metrics; it neither loads nor keeps files.
        eval_kwargs=options | {"validate::handlers": []},
        best_model_filepath=str(tmp_path / "models" / "model.pt"),
    )
    algo.initialize({ExtraItems.CLIENT_NAME: "hospital", ExtraItems.APP_ROOT: str(ROOT)})
    yield algo
    algo.finalize()


def test_rounds_start_from_the_weights_sent(client, tmp_path):
    names = [name for name, _ in client.trainer.network.named_parameters()]
    generator = torch.Generator().manual_seed(1)
    weights = {
        name: value + 0.01 * torch.randn(value.shape, generator=generator)
        for name, value in client.trainer.network.state_dict().items()
    }
    sent = ExchangeObject(weights={name: value.numpy() for name, value in weights.items()})
    begun = []
    client.trainer.add_event_handler(
        Events.EPOCH_STARTED,
        lambda engine: begun.append({k: v.clone() for k, v in engine.network.state_dict().items()}),
    )
    scores = []
    for _ in range(2):
        client.train(sent)
        answer = client.get_weights()
        assert answer.weight_type == WeightType.WEIGHT_DIFF
        assert answer.statistics["num_executed_iterations"] == 3
        assert any(torch.as_tensor(answer.weights[name]).abs().max() > 0 for name in names)
        scores.append(client.evaluate(sent).metrics["pseudo_dice_average"])
    assert len(begun) == 2
    for state in begun:
        assert all(torch.equal(state[name], weights[name]) for name in weights)
    assert scores[0] == scores[1]

    best = client.get_weights({ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL}).weights
    assert best.keys() == weights.keys()
    assert {path.name for path in (tmp_path / "models").glob("*.pt")} == {"model.pt", "model_final.pt", "last.pt"}
