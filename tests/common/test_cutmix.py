import numpy as np
import pytest
import torch

from custom_apps.common.cutmix import BlendImages


def batch(size=4, height=30, width=40):
    values = torch.arange(float(size)).view(-1, 1, 1, 1)
    return {"image": values.expand(-1, 3, height, width).clone(), "label": torch.arange(size) % 2, "case": list("abcd")}


def test_mixup_blends_images_and_targets_alike():
    data = batch()
    mixed = BlendImages(mixup=0.8, cutmix=0)(data, np.random.RandomState(0))
    share = 1 - mixed["image"][0, 0, 0, 0].item() / 3
    assert 0 < share < 1
    expected = share * data["image"] + (1 - share) * data["image"].flip(0)
    assert torch.allclose(mixed["image"], expected)
    hard = torch.nn.functional.one_hot(data["label"], 2).float()
    assert torch.allclose(mixed["label"], share * hard + (1 - share) * hard.flip(0))
    assert mixed["case"] == data["case"]
    assert data["label"].dtype == torch.int64


@pytest.mark.parametrize("minmax", [None, (0.2, 0.6)])
def test_cutmix_weights_by_area(minmax):
    random, data = np.random.RandomState(1), batch()
    blend = BlendImages(mixup=0, cutmix=1.0, cutmix_minmax=minmax)
    for _ in range(50):
        mixed = blend(data, random)
        pasted = (mixed["image"] != data["image"])[0, 0]
        share = 1 - pasted.float().mean().item()
        assert mixed["label"][0].tolist() == pytest.approx([share, 1 - share], abs=1e-6)
        if pasted.any():
            rows, columns = torch.where(pasted)
            box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            assert box == pasted.sum()
        assert torch.equal(data["image"], batch()["image"])
        assert minmax is None or 0.03 < 1 - share <= 0.36


def test_switch_probability_and_smoothing():
    random, data = np.random.RandomState(2), batch()
    blend = BlendImages(mixup=1.0, cutmix=1.0, prob=0.5, switch_prob=0.25, smoothing=0.1)
    kinds = {"none": 0, "box": 0, "all": 0}
    for _ in range(600):
        mixed = blend(data, random)
        changed = (mixed["image"] != data["image"])[0].float().mean()
        kinds["none" if changed == 0 else "all" if changed == 1 else "box"] += 1
        assert torch.allclose(mixed["label"].sum(1), torch.ones(4))
    assert kinds["all"] == pytest.approx(225, abs=45)
    assert kinds["box"] == pytest.approx(75, abs=30)
    untouched = BlendImages(prob=0.0, smoothing=0.1)(data, random)
    assert untouched["image"] is data["image"]
    assert torch.allclose(untouched["label"][1], torch.tensor([0.05, 0.95]))


def test_off_means_soft_targets_alone():
    data = batch()
    mixed = BlendImages(mixup=0, cutmix=0)(data, np.random.RandomState(0))
    assert mixed["image"] is data["image"]
    assert mixed["label"].tolist() == [[1, 0], [0, 1]] * 2
    with pytest.raises(ValueError, match="negative"):
        BlendImages(mixup=-1)
