import numpy as np
import pytest
import torch
from torch import nn

from custom_apps.common.gathered_metric import GatheredMetric
from custom_apps.common.training_engine import Evaluator


def evaluator(batches, network=None, **options):
    return Evaluator(device="cpu", val_data_loader=batches, network=network or nn.Identity(), **options)


def batch(index, image, label):
    return {"index": torch.tensor(index), "image": torch.tensor(image)[:, None], "label": torch.tensor(label)[:, None]}


def test_cases_of_all_batches_are_measured_together_and_once():
    seen = {}

    def measure(reference, predicted):
        seen["arrays"] = reference, predicted
        return np.abs(reference - predicted).max()

    # Case 1 comes twice, as from a distributed sampler that fills up its last round.
    batches = [batch([3, 1], [1.0, 2.0], [1.5, 2.0]), batch([0, 1], [5.0, 2.0], [9.0, 2.0])]
    engine = evaluator(batches, key_val_metric={"worst": GatheredMetric(measure)})
    engine.run()
    assert engine.state.metrics["worst"] == 4.0
    np.testing.assert_array_equal(seen["arrays"], [[9.0, 2.0, 1.5], [5.0, 2.0, 1.0]])
    engine.run(2)
    assert len(seen["arrays"][0]) == 3, "an epoch begins without the cases of the one before"


def test_metrics_of_two_networks_over_one_pass():
    batches = [batch([0, 1], [1.0, 2.0], [1.0, 2.0])]
    doubled = nn.Linear(1, 1, bias=False)
    nn.init.constant_(doubled.weight, 2.0)

    def error(a, b):
        return np.abs(a - b).mean()

    engine = evaluator(
        batches,
        further_networks={"online": doubled},
        loss_function=nn.MSELoss(),
        key_val_metric={"mae": GatheredMetric(error)},
        additional_metrics={
            "mae_online": GatheredMetric(error, keys=["label", "pred_online"]),
            "mse_online": GatheredMetric(np.mean, keys=["loss_online"]),
        },
    )
    engine.run()
    assert engine.state.metrics == {"mae": 0.0, "mae_online": 1.5, "mse_online": 2.5}


class Draws(nn.Module):
    def forward(self, image):
        return image + torch.rand(image.shape)


def test_draws_in_validation_depend_on_the_cases_alone():
    batches = [batch([0, 1], [1.0, 2.0], [0.0, 0.0]), batch([2], [3.0], [0.0])]
    engine = evaluator(
        batches, Draws(), further_networks={"online": Draws()}, seed_key="index",
        key_val_metric={"mean": GatheredMetric(np.mean, keys=["pred"])},
        additional_metrics={"mean_online": GatheredMetric(np.mean, keys=["pred_online"])},
    )  # fmt: skip
    torch.manual_seed(5)
    engine.run()
    after = torch.rand(1)
    first = dict(engine.state.metrics)
    assert first["mean"] == first["mean_online"]
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1)), "validation leaves the generator as it was"
    torch.manual_seed(6)
    engine.run(2)
    assert engine.state.metrics == pytest.approx(first, abs=0)
    other = evaluator([batch([7, 8], [1.0, 2.0], [0.0, 0.0])], Draws(), seed_key="index")
    other.run()
    assert not torch.equal(other.state.output[0]["pred"] % 1, engine.state.output[0]["pred"] % 1)
