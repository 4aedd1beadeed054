import numpy as np
import pytest
import torch

from custom_apps.seg.augmentation_labels import RandLeftRightFlipd
from custom_apps.seg.click_training import (
    ClickTrainingTransforms,
    ClickValidationTransforms,
    SimulateClicksd,
    collate_clicks,
    prepare_click_batch,
)
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.patch_loader import PatchLoader
from custom_apps.seg.patch_sampling import PatchDataset
from tests.seg.training_phantom import MemoryPrepared

LABELS = LabelManager({"background": 0, "left": 1, "right": 2})


def patches(number=12) -> PatchDataset:
    prepared = MemoryPrepared(patch_size=(8, 10, 8), batch_size=3)
    transforms = ClickTrainingTransforms((8, 10, 8), labels=LABELS, left_right_pairs=[[1, 2]], recipe="u_mamba2")
    return PatchDataset(prepared, prepared.cases, number, seed=1, augmentation=transforms)


def test_clicks_lie_on_their_label_in_the_augmented_patch():
    dataset, clicks = patches(), 0
    for index in range(30):
        item = dataset[index]
        points = item["click_points"]
        assert points.dtype == torch.float32
        at = item["label"][0][tuple(points.long().T)]
        assert torch.equal(at.long(), item["click_labels"] + 1)
        clicks += len(points)
    assert clicks > 30


def test_a_patch_and_its_clicks_are_a_function_of_the_seed():
    first, again = (patches()[7] for _ in range(2))
    assert torch.equal(first["click_points"], again["click_points"])
    assert not torch.equal(first["image"], patches()[8]["image"])


def test_the_patch_is_the_one_without_clicks():
    """Clicks come last, so that they change nothing about images and labels."""
    from custom_apps.seg.augmentation import TrainingTransforms

    dataset, plain = patches(), patches()
    plain.augmentation = TrainingTransforms((8, 10, 8), recipe="u_mamba2", left_right_pairs=[[1, 2]])
    assert torch.equal(dataset[3]["image"], plain[3]["image"])
    assert torch.equal(dataset[3]["label"], plain[3]["label"])


def test_outside_stays_outside_when_left_and_right_change_places():
    """The published table took its last entry for -1, so that padding became a class and was clicked."""
    flip = RandLeftRightFlipd(("image", "label"), [[1, 2]])
    label = torch.full((1, 6, 6, 6), -1, dtype=torch.int16)
    label[0, :, :, 3:5] = 1
    seen = set()
    for seed in range(12):
        flip.set_random_state(seed)
        found = flip({"image": label.float(), "label": label})["label"]
        assert (found == -1).sum() == (label == -1).sum()
        seen |= set(found.unique().tolist())
        clicks = SimulateClicksd(LABELS, no_click_probability=0).set_random_state(seed)({"label": found})
        assert (found[0][tuple(clicks["click_points"].long().T)] > 0).all()
    assert seen == {-1, 1, 2}


def test_batches_are_padded_with_label_minus_one():
    batch = next(iter(PatchLoader(patches(), collate_fn=collate_clicks)))
    items = [patches()[index] for index in range(3)]
    counts = [len(item["click_labels"]) for item in items]
    assert len(set(counts)) > 1
    assert batch["click_points"].shape == (3, max(counts), 3)
    for row, item, count in zip(range(3), items, counts, strict=True):
        assert torch.equal(batch["click_points"][row, :count], item["click_points"])
        assert torch.equal(batch["click_labels"][row, :count], item["click_labels"])
        assert (batch["click_labels"][row, count:] == -1).all()
    assert torch.equal(batch["image"][1], items[1]["image"])
    assert batch["case"] == [item["case"] for item in items]


def test_a_batch_without_any_click():
    nothing = {"click_points": torch.zeros(0, 3), "click_labels": torch.zeros(0, dtype=torch.int64)}
    batch = collate_clicks([{"image": torch.zeros(1, 2, 2, 2), "case": "a", **nothing}] * 2)
    assert batch["click_points"].shape == (2, 0, 3)


def test_validation_clicks_are_simulated_too():
    item = {"image": torch.zeros(1, 9, 9, 9), "label": torch.ones(1, 9, 9, 9, dtype=torch.int16)}
    found = ClickValidationTransforms(labels=LABELS, no_click_probability=0.0)(item)
    assert 1 <= len(found["click_points"]) <= 10
    none = ClickValidationTransforms(labels=LABELS, no_click_probability=1.0)(item)
    assert none["click_points"].shape == (0, 3)


def test_the_engine_gets_clicks_as_an_argument_of_the_network():
    batch = collate_clicks([patches()[index] for index in range(2)])
    image, label, args, kwargs = prepare_click_batch(batch, "cpu")
    assert image.shape == (2, 1, 8, 10, 8)
    assert label.shape == image.shape
    assert args == ()
    points, labels = kwargs["clicks"]
    assert points.shape[:2] == labels.shape
    bare = {"image": batch["image"]}
    assert prepare_click_batch(bare, "cpu")[1:] == (None, (), {"clicks": None})


def test_what_cannot_be_clicked_is_refused():
    regions = LabelManager({"background": 0, "whole": [1, 2], "core": 2}, [1, 2])
    with pytest.raises(ValueError, match="regions"):
        SimulateClicksd(regions)
    with pytest.raises(ValueError, match="most_clicks"):
        SimulateClicksd(LABELS, most_clicks=0)


def test_labels_beyond_two(tmp_path):
    names = LabelManager({"background": 0, **{f"tooth_{n}": n for n in range(1, 6)}})
    label = torch.zeros(1, 5, 12, 12, dtype=torch.int16)
    for n in range(1, 6):
        label[0, :, 2 * n : 2 * n + 2] = n
    found = SimulateClicksd(names, no_click_probability=0).set_random_state(0)({"label": label})
    assert set(found["click_labels"].tolist()) == set(range(5))
    assert np.isin(np.bincount(found["click_labels"]), range(1, 11)).all()
