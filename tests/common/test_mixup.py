import numpy as np
import pytest
import torch

from custom_apps.common.mixup import mixup


def batch(size=5):
    values = torch.arange(float(size))
    image = values.view(-1, 1, 1, 1, 1).expand(-1, 1, 2, 3, 3).clone()
    return {"image": image, "ef_percent": values[:, None] * 10, "case": list("abcde")}


def test_inputs_and_targets_are_blended_alike():
    mixed = mixup(batch(), np.random.RandomState(0))
    values = mixed["image"][:, 0, 0, 0, 0]
    assert torch.equal(mixed["image"], values.view(-1, 1, 1, 1, 1).expand_as(mixed["image"]))
    assert torch.allclose(mixed["ef_percent"][:, 0], 10 * values)
    assert not torch.equal(values, batch()["image"][:, 0, 0, 0, 0])
    assert (values != values.round()).sum() >= 3
    assert mixed["case"] == batch()["case"]


def test_shares_are_uniform():
    random = np.random.RandomState(1)
    shares = []
    for _ in range(300):
        data = {"image": torch.eye(4)}
        mixed = mixup(data, random)["image"]
        shares += [mixed[i, i].item() for i in range(4) if mixed[i, i] < 1]
        assert torch.allclose(mixed.sum(1), torch.ones(4))
    assert abs(np.mean(shares) - 0.5) < 0.03
    assert abs(np.var(shares) - 1 / 12) < 0.01


def test_label_maps_cannot_be_blended():
    with pytest.raises(TypeError, match="label"):
        mixup({"image": torch.ones(2, 3), "label": torch.ones(2, 3, dtype=torch.int64)}, np.random.RandomState(0))
