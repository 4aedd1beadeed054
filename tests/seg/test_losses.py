import pytest
import torch
import torch.nn.functional as F

from custom_apps.seg.deep_supervision import DeepSupervisionLoss
from custom_apps.seg.losses import DiceCrossEntropyLoss, RegionDiceCrossEntropyLoss, loss_for
from tests.seg.training_phantom import MemoryPrepared

REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}


def batch(classes=4, size=(5, 4, 3), seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, *size, generator=generator, requires_grad=True)
    target = torch.randint(0, classes, (2, 1, *size), generator=generator, dtype=torch.int16)
    return logits, target


def test_weighted_cross_entropy_is_a_weighted_mean():
    logits, target = batch()
    weights = [1.0, 2.0, 5.0, 0.5]
    loss = DiceCrossEntropyLoss(class_weights=weights, dice_weight=0.0)(logits, target)
    assert float(loss) == pytest.approx(
        float(F.cross_entropy(logits, target[:, 0].long(), torch.tensor(weights))), abs=1e-6
    )


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 3.0]])
@pytest.mark.parametrize("batch_dice", [False, True])
def test_ignored_voxels_have_no_say(weights, batch_dice):
    logits, target = batch(3)
    target[:, :, 3:] = 3
    loss = DiceCrossEntropyLoss(batch_dice, ignore_label=3, class_weights=weights)
    value = loss(logits, target)
    plain = DiceCrossEntropyLoss(batch_dice, class_weights=weights)(logits[:, :, :3], target[:, :, :3])
    assert float(value) == pytest.approx(float(plain), abs=1e-6)
    value.backward()
    assert logits.grad[:, :, 3:].abs().max() == 0
    assert logits.grad[:, :, :3].abs().min() > 0


def test_nothing_but_ignored_voxels():
    logits, target = batch(3)
    value = DiceCrossEntropyLoss(ignore_label=3, smooth=0.0)(logits, torch.full_like(target, 3))
    value.backward()
    assert float(value) == 0
    assert torch.isfinite(logits.grad).all()


def test_the_ignored_label_may_be_a_class():
    logits, target = batch()
    changed = target.clone()
    loss = DiceCrossEntropyLoss(ignore_label=0)
    loss(logits, changed).backward()
    assert logits.grad[(target == 0).expand_as(logits)].abs().max() == 0


def test_regions_overlap_and_include_their_background():
    logits, target = batch(3)
    regions = [[1, 2, 3], [2, 3], 3]
    value = RegionDiceCrossEntropyLoss(regions)(logits, target)
    members = torch.cat([target >= 1, target >= 2, target >= 3], dim=1).float()
    entropy = F.binary_cross_entropy_with_logits(logits, members)
    p = logits.sigmoid()
    axes = (2, 3, 4)
    dice = (2 * (p * members).sum(axes) + 1e-5) / (p.sum(axes) + members.sum(axes) + 1e-5)
    assert float(value) == pytest.approx(float(entropy - dice.mean()), abs=1e-6)


def test_regions_with_ignored_voxels():
    logits, target = batch(2)
    target = target.clamp(max=2)
    target[:, :, 3:] = 3
    value = RegionDiceCrossEntropyLoss([[1, 2], 2], ignore_label=3)(logits, target)
    plain = RegionDiceCrossEntropyLoss([[1, 2], 2])(logits[:, :, :3], target[:, :, :3])
    assert float(value) == pytest.approx(float(plain), abs=1e-6)
    everything = RegionDiceCrossEntropyLoss([[1, 2], 2], ignore_label=3)(logits, torch.full_like(target, 3))
    assert torch.isfinite(everything)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.uint8, torch.int64, torch.float32])
def test_any_type_of_label_map(dtype):
    logits, target = batch()
    assert DiceCrossEntropyLoss()(logits, target.to(dtype)) == DiceCrossEntropyLoss()(logits, target)


def test_the_optimum_is_minus_one():
    _, target = batch()
    perfect = F.one_hot(target[:, 0].long(), 4).movedim(-1, 1).float() * 60
    assert float(DiceCrossEntropyLoss()(perfect, target)) == pytest.approx(-1, abs=1e-4)


def test_loss_for_a_data_set():
    plain = loss_for(MemoryPrepared(batch_dice=True))
    assert isinstance(plain, DeepSupervisionLoss)
    assert plain.loss.dice.batch_dice
    assert plain.loss.dice.smooth == 1e-5
    assert not loss_for(MemoryPrepared(batch_dice=True), batch_dice=False).loss.dice.batch_dice
    regions = loss_for(MemoryPrepared(labels_json=REGIONS), smooth=0.0, deep_supervision=False)
    assert isinstance(regions, RegionDiceCrossEntropyLoss)
    assert regions.regions == [[1, 2], [2]]
    ignoring = {"labels": {"background": 0, "ball": 1, "ignore": 2}}
    assert loss_for(MemoryPrepared(labels_json=ignoring)).loss.ignore_label == 2
