import pickle

import numpy as np
import pytest
import torch

from custom_apps.seg.augmentation import TrainingTransforms, ValidationTransforms
from custom_apps.seg.augmentation_labels import MaskOutsided
from custom_apps.seg.patch_sampling import PatchDataset
from tests.seg.training_phantom import MemoryPrepared


def patches(prepared, **options):
    options = {"iterations": 5, "seed": 3} | options
    return PatchDataset(prepared, prepared.cases, **options)


def same(a, b):
    return torch.equal(a["image"], b["image"]) and torch.equal(a["label"], b["label"]) and a["case"] == b["case"]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("patch_size", [(8, 10, 6), (4, 16, 16), (12, 9), (24, 27, 30)])
def test_items_have_the_final_size(training, patch_size):
    dataset = patches(MemoryPrepared(patch_size, channels=2), training=training)
    assert len(dataset) == 10
    for index in range(4):
        item = dataset[index]
        assert item["image"].shape == (2, *patch_size)
        assert item["image"].dtype == torch.float32
        assert item["label"].shape == (1, *patch_size)
        assert set(item["label"].unique().tolist()) <= {0, 1, 2}
        assert type(item["image"]) is torch.Tensor


def test_an_item_is_a_function_of_seed_epoch_and_index():
    prepared = MemoryPrepared()
    first, second = patches(prepared), patches(prepared)
    # Another order, another worker's history and a pickled copy change nothing.
    _ = [second[i] for i in (7, 2)]
    copy = pickle.loads(pickle.dumps(second))
    for index in (0, 3, 9):
        assert same(first[(4, index)], second[(4, index)])
        assert same(first[(4, index)], copy[(4, index)])
    first.set_epoch(4)
    assert same(first[3], second[(4, 3)])
    assert not same(first[3], second[(5, 3)])
    assert not same(first[3], first[4])
    assert not same(first[3], patches(prepared, seed=4)[(4, 3)])
    # Neighbouring seeds, epochs and indices must not share draws.
    assert not same(patches(prepared, seed=4)[(3, 3)], patches(prepared, seed=3)[(4, 3)])


def test_forced_patches_show_foreground():
    dataset = patches(MemoryPrepared((5, 5, 5), batch_size=3), iterations=60, training=False)
    shown = np.array([[bool(dataset[b * 3 + j]["label"].any()) for j in range(3)] for b in range(60)])
    assert shown[:, 2].all()
    assert not shown[:, :2].all()


def test_a_batch_of_one_needs_the_probabilistic_rule():
    never = patches(MemoryPrepared((3, 3, 3), batch_size=1, size=(40, 40, 40)), iterations=150, training=False)
    shown = np.mean([bool(never[i]["label"].any()) for i in range(150)])
    often = PatchDataset(
        never.prepared, never.prepared.cases, 150, seed=1, training=False, probabilistic_oversampling=True
    )
    shown_often = np.mean([bool(often[i]["label"].any()) for i in range(150)])
    assert shown < 0.1
    assert 0.2 < shown_often < 0.5


def test_the_forced_slice_of_a_2d_patch_shows_its_class():
    dataset = patches(MemoryPrepared((7, 7), batch_size=2, size=(40, 30, 30)), iterations=40, training=False)
    assert all(dataset[2 * batch + 1]["label"].any() for batch in range(40))


def test_outside_of_a_small_image():
    prepared = MemoryPrepared((24, 27, 30), size=(10, 11, 12))
    seen = []
    dataset = patches(prepared, training=True, augmentation=lambda item: seen.append(item) or item)
    dataset[0]
    assert dataset.initial_patch_size == (24, 27, 30)
    assert int((seen[0]["label"] == -1).sum()) >= 24 * 27 * 30 - 10 * 11 * 12
    # The first slice of the phantom is -1 too but is part of the image.
    inside = (seen[0]["image"] != 0).sum()
    assert inside == 10 * 11 * 12


def test_defaults_follow_training_and_plan():
    prepared = MemoryPrepared(batch_size=7)
    assert isinstance(patches(prepared).augmentation, TrainingTransforms)
    assert isinstance(patches(prepared, training=False).augmentation, ValidationTransforms)
    assert patches(prepared).batch_size == 7
    assert patches(prepared, batch_size=2).batch_size == 2
    assert patches(prepared).initial_patch_size == TrainingTransforms((8, 10, 6)).initial_patch_size
    masked = patches(MemoryPrepared(channels=2, use_mask_for_norm=(False, True)))
    assert [t.channels for t in masked.augmentation.transforms if isinstance(t, MaskOutsided)] == [[1]]


def test_bad_arguments():
    prepared = MemoryPrepared()
    with pytest.raises(ValueError, match="no case"):
        PatchDataset(prepared, [])
    with pytest.raises(ValueError, match="at least 1"):
        patches(prepared, iterations=0)
    with pytest.raises(IndexError):
        patches(prepared)[10]
    assert len(list(patches(prepared, training=False))) == 10
