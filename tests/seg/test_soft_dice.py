import pytest
import torch
from monai.losses import DiceLoss

from custom_apps.seg.soft_dice import SoftDice, one_hot


def inputs(classes=3, size=(4, 5, 3), seed=0):
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.rand(2, classes, *size, generator=generator)
    target = torch.rand(2, classes, *size, generator=generator) < 0.3
    return probabilities, target


def test_one_hot_of_labels_and_regions():
    target = torch.tensor([[[0, 1, 2], [3, 1, -1]]])[None]
    labels = one_hot(target, range(1, 4))
    assert labels.shape == (1, 3, 2, 3)
    assert labels.dtype == torch.bool
    assert torch.equal(labels[0, 1], target[0, 0] == 2)
    regions = one_hot(target, [[1, 2, 3], [2, 3], 3])
    assert torch.equal(regions[0, 0], target[0, 0] > 0)
    assert torch.equal(regions[0, 1], target[0, 0] >= 2)
    assert torch.equal(regions[0, 2], target[0, 0] == 3)


@pytest.mark.parametrize("batch", [False, True])
def test_equals_monais_dice_where_they_agree(batch):
    # MONAI adds ε above and below and subtracts from 1.
    probabilities, target = inputs()
    ours = SoftDice(batch, smooth=1e-5)(probabilities, target)
    theirs = DiceLoss(batch=batch, smooth_nr=1e-5, smooth_dr=1e-5)(probabilities, target.float())
    assert float(ours) == pytest.approx(float(theirs) - 1, abs=1e-6)


def test_batch_dice_pools_samples():
    probabilities, target = inputs()
    stacked = [each.movedim(0, 1).flatten(1, 2)[None] for each in (probabilities, target)]
    assert float(SoftDice(True)(probabilities, target)) == pytest.approx(float(SoftDice(False)(*stacked)), abs=1e-6)
    assert float(SoftDice(False)(probabilities, target)) != pytest.approx(float(SoftDice(False)(*stacked)), abs=1e-4)


def test_masked_voxels_do_not_count():
    probabilities, target = inputs()
    mask = torch.zeros(2, 1, 4, 5, 3, dtype=torch.bool)
    mask[:, :, :2] = True
    expected = SoftDice()(probabilities[:, :, :2], target[:, :, :2])
    assert float(SoftDice()(probabilities, target, mask)) == pytest.approx(float(expected), abs=1e-6)


def test_absent_classes_without_smoothing():
    zeros = torch.zeros(1, 2, 4, 4, requires_grad=True)
    loss = SoftDice(smooth=0.0)(zeros, torch.zeros(1, 2, 4, 4, dtype=torch.bool))
    loss.backward()
    assert float(loss) == 0
    assert torch.isfinite(zeros.grad).all()
    assert float(SoftDice(smooth=1e-5)(zeros, torch.zeros(1, 2, 4, 4, dtype=torch.bool))) == pytest.approx(-1)
