import pytest
import torch

from custom_apps.seg.restoration import RestorationLoss, prepare_restoration_batch
from custom_apps.seg.restoration_figures import RestorationFigures, restore

CLEAN = torch.zeros(1, 2, 4, 4)
HIDDEN = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
HIDDEN[..., :2] = True


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 1.0),
        ({"measure": "l2"}, 2.0),
        ({"mask_only": True}, 2.0),
        ({"measure": "l2", "mask_only": True}, 4.0),
    ],
)
def test_losses(options, expected):
    restored = torch.zeros(1, 2, 4, 4)
    restored[..., :2] = 2.0
    clean = {"target": CLEAN, "hidden": HIDDEN}
    assert RestorationLoss(**options)(restored, clean) == expected


def test_nothing_hidden_and_wrong_arguments():
    clean = {"target": CLEAN, "hidden": torch.zeros_like(HIDDEN)}
    assert RestorationLoss(mask_only=True)(CLEAN + 1, clean) == 0
    with pytest.raises(ValueError, match=r"restores \(1, 3, 4, 4\), the image is \(1, 2, 4, 4\)"):
        RestorationLoss()(torch.zeros(1, 3, 4, 4), clean)
    with pytest.raises(ValueError, match="measure must be"):
        RestorationLoss("l3")


def test_batch():
    batch = {"image": CLEAN + 1, "target": CLEAN, "hidden": HIDDEN, "case": ["a"]}
    image, clean = prepare_restoration_batch(batch, "cpu", True)
    assert torch.equal(image, CLEAN + 1)
    assert set(clean) == {"target", "hidden"}


def test_figure_of_volumes_and_slices(tmp_path):
    network = torch.nn.Conv3d(1, 1, 1)
    item = {"image": torch.rand(1, 5, 8, 9), "target": torch.rand(1, 5, 8, 9), "case": "head"}
    found = restore(network, item)
    assert found.clean.shape == found.restored.shape == (8, 9)
    assert found.error_before == pytest.approx(float((item["image"] - item["target"]).abs().mean()))
    path = tmp_path / "restorations.png"
    RestorationFigures(path, network.train(), [item] * 3, examples=2)(None)
    assert path.stat().st_size > 5000
    assert network.training
    plane = {"image": torch.rand(1, 8, 9), "target": torch.rand(1, 8, 9), "case": "slice"}
    assert restore(torch.nn.Conv2d(1, 1, 1), plane).clean.shape == (8, 9)
