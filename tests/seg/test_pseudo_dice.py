import math

import pytest
import torch
from ignite.engine import Engine

from custom_apps.seg.labels import LabelManager
from custom_apps.seg.pseudo_dice import PseudoDice, pseudo_dice_for
from tests.seg.training_phantom import MemoryPrepared


def logits_of(labels, classes):
    return torch.nn.functional.one_hot(labels[:, 0].long(), classes).movedim(-1, 1).float() * 9 - 4.5


def batches(classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            logits_of(torch.randint(0, classes, (2, 1, 4, 5), generator=generator), classes),
            torch.randint(0, classes, (2, 1, 4, 5), generator=generator),
        )
        for _ in range(3)
    ]


def expected_dice(pairs, label):
    predicted = torch.cat([logits.argmax(1) for logits, _ in pairs]) == label
    truth = torch.cat([labels[:, 0] for _, labels in pairs]) == label
    return float(2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()))


@pytest.mark.parametrize("form", ["batch", "decollated", "deep supervision"])
def test_counts_are_summed_over_the_epoch(form):
    metric = PseudoDice(["a", "b"])
    for logits, labels in batches():
        if form == "decollated":
            metric.update((list(logits), list(labels)))
        elif form == "deep supervision":
            metric.update(([logits, logits[..., ::2]], labels))
        else:
            metric.update((logits, labels))
    expected = [expected_dice(batches(), label) for label in (1, 2)]
    assert metric.per_class().tolist() == pytest.approx(expected)
    assert metric.compute() == pytest.approx(sum(expected) / 2)
    metric.reset()
    assert math.isnan(metric.compute())


def test_a_class_that_does_not_occur_is_left_out():
    labels = torch.tensor([[[[0, 1, 1, 0]]]])
    metric = PseudoDice(["a", "b"])
    metric.update((logits_of(labels, 3), labels))
    assert metric.per_class()[0] == 1
    assert math.isnan(metric.per_class()[1])
    assert metric.compute() == 1


def test_ignored_voxels():
    labels = torch.tensor([[[[0, 1, 2, 2]]]])
    metric = PseudoDice(["a"], ignore_label=2)
    metric.update((logits_of(torch.tensor([[[[0, 1, 1, 0]]]]), 2), labels))
    assert metric.per_class().tolist() == [1]


def test_regions_overlap():
    labels = torch.tensor([[[[0, 1, 2, 2, 3]]]])
    metric = PseudoDice(["whole", "core"], regions=[[1, 2], 2], ignore_label=3)
    logits = torch.tensor([[[[1.0, 1, 1, 1, 1]], [[-1.0, -1, 1, -1, 1]]]])
    metric.update((logits, labels))
    assert metric.per_class().tolist() == pytest.approx([6 / 7, 2 / 3])


def run(metric, engine, pairs, epoch=1):
    engine.state.metrics = {}
    engine.run([{"pred": logits, "label": labels} for logits, labels in pairs], max_epochs=1)
    return engine.state.metrics


def test_moving_average_and_named_values():
    engine = Engine(lambda _, batch: batch)
    metric = PseudoDice(["liver", "left kidney"])
    metric.attach(engine, "pseudo_dice_ema")
    first = dict(run(metric, engine, batches(seed=0)))
    assert first["pseudo_dice_ema"] == pytest.approx(first["pseudo_dice"])
    assert first["pseudo_dice_left kidney"] == pytest.approx(expected_dice(batches(seed=0), 2))
    second = dict(run(metric, engine, batches(seed=1)))
    assert second["pseudo_dice"] != pytest.approx(first["pseudo_dice"])
    assert second["pseudo_dice_ema"] == pytest.approx(0.9 * first["pseudo_dice"] + 0.1 * second["pseudo_dice"])
    resumed = PseudoDice(["liver", "left kidney"])
    resumed.load_state_dict(metric.state_dict())
    assert resumed.moving_average == metric.moving_average


def test_epochs_without_foreground_leave_the_average_alone():
    engine = Engine(lambda _, batch: batch)
    metric = PseudoDice(["a"])
    metric.attach(engine, "ema")
    empty = torch.zeros(1, 1, 2, 2, dtype=torch.long)
    assert run(metric, engine, [(logits_of(empty, 2), empty)])["ema"] == 0
    assert metric.moving_average is None
    full = torch.ones(1, 1, 2, 2, dtype=torch.long)
    assert run(metric, engine, [(logits_of(full, 2), full)])["ema"] == 1
    assert run(metric, engine, [(logits_of(empty, 2), empty)])["ema"] == 1


def test_wrong_shapes_are_named():
    labels = torch.tensor([[[[0, 5]]]])
    with pytest.raises(ValueError, match="label 5 is beyond the 3 classes"):
        PseudoDice(["a", "b"]).update((torch.zeros(1, 3, 1, 2), labels))
    with pytest.raises(ValueError, match="4 channels, expected 3"):
        PseudoDice(["a", "b"]).update((torch.zeros(1, 4, 1, 2), labels))
    with pytest.raises(ValueError, match="1 names for 2 regions"):
        PseudoDice(["a"], regions=[1, 2])


def test_for_a_data_set():
    assert pseudo_dice_for(MemoryPrepared()).names == ["ball", "cube"]
    prepared = MemoryPrepared()
    prepared.labels = LabelManager({"background": 0, "all": [1, 2], "core": 2, "ignore": 3}, [1, 2])
    metric = pseudo_dice_for(prepared)
    assert metric.names == ["all", "core"]
    assert metric.ignore_label == 3
    assert list(metric.regions) == [(1, 2), (2,)]
