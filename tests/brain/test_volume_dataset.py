import pickle

import pytest
import torch

from custom_apps.brain.chains import BrainVolumes
from custom_apps.brain.patients import patient_records
from custom_apps.brain.volume_dataset import VolumeDataset
from custom_apps.common.errors import DataError
from custom_apps.common.item_loader import item_loader


@pytest.fixture
def records(prepared):
    return patient_records(prepared)


def test_items(records):
    item = VolumeDataset(records)[2]
    assert item["image"].shape == (4, 16, 20, 16)
    assert item["image"].dtype == torch.float32
    assert type(item["image"]) is torch.Tensor
    assert item["label"].dtype == torch.int64
    assert item["label"].shape == ()
    assert item["affine"].shape == (4, 4)
    assert (item["case"], item["index"]) == (records[2]["case"], 2)
    assert abs(float(item["image"].mean())) < 1e-5


@pytest.mark.parametrize("augment", ["light", "strong"])
def test_draws_follow_from_seed_epoch_and_index(records, augment):
    chain = BrainVolumes(augment=augment, spacing_mm=12.0)
    first = VolumeDataset(records, chain, seed=3)
    item = first[(5, 1, 0)]["image"]
    for other in (first[(6, 1, 0)], first[(5, 1, 1)], VolumeDataset(records, chain, seed=4)[(5, 1, 0)]):
        assert not torch.equal(item, other["image"])
    again = VolumeDataset(records, BrainVolumes(augment=augment, spacing_mm=12.0), cache="memory", seed=3)
    assert torch.equal(again[(5, 1, 0)]["image"], item)
    assert torch.isfinite(item).all()


def test_strong_adds_artifacts_to_three_in_ten(records):
    dataset = VolumeDataset(records, BrainVolumes(augment="strong", spacing_mm=12.0), cache="memory")
    chosen = dataset.transform.transforms[-1]
    draws = [chosen.set_random_state(seed).R.multinomial(1, chosen.weights)[0] for seed in range(400)]
    assert 0.24 < sum(draws) / 400 < 0.36
    assert len(chosen.transforms[0].transforms) == len(chosen.transforms[1].transforms) + 2


def test_clean_target_has_no_noise_but_the_same_place_and_gamma(records):
    plain = VolumeDataset(records, BrainVolumes())[0]["image"]
    item = VolumeDataset(records, BrainVolumes(augment="light", clean_target=True), seed=1)[(3, 0, 0)]
    background = item["target"][:, :2, :2, :2]
    assert torch.allclose(background, background.amin(dim=(1, 2, 3), keepdim=True).expand_as(background))
    difference = item["image"] - item["target"]
    assert 0 < float(difference.std()) < 0.2
    assert not torch.allclose(item["target"], plain, atol=0.1)


def test_flip_exchanges_left_and_right(records):
    plain = VolumeDataset(records, BrainVolumes())[0]["image"]
    flipped = VolumeDataset(records, BrainVolumes(flip_probability=1.0))[0]["image"]
    assert torch.equal(flipped, plain.flip(1))


def test_minmax(records):
    image = VolumeDataset(records, BrainVolumes(normalization="minmax"))[0]["image"]
    assert (float(image.min()), float(image.max())) == (0, 1)


def test_loader_gives_the_same_batches_with_workers(records):
    dataset = VolumeDataset(records, BrainVolumes(augment="light"), cache="memory", seed=2)
    alone = [batch["image"] for batch in item_loader(dataset, 2, shuffle=True, seed=2)]
    spread = [batch["image"] for batch in item_loader(dataset, 2, shuffle=True, seed=2, num_workers=1)]
    assert len(alone) == len(records) // 2
    assert all(torch.equal(a, b) for a, b in zip(alone, spread, strict=True))


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_unprepared_volumes_are_named(egd_phantom, cache):
    records = patient_records(egd_phantom)
    with pytest.raises(DataError, match=r"EGD-0001/1_T1/NIFTI/T1.nii.gz.*prepare brain_idh_ssm_mae"):
        VolumeDataset(records, cache=cache)[0]


def test_error_of_a_worker_names_the_file(records):
    broken = [dict(record) for record in records]
    broken[0]["image"] = ["absent.nii.gz", *broken[0]["image"][1:]]
    with pytest.raises(DataError, match=r"absent.nii.gz"):
        list(item_loader(VolumeDataset(broken), 2, shuffle=False, num_workers=1))


def test_bad_arguments(records):
    with pytest.raises(ValueError, match="no records"):
        VolumeDataset([])
    with pytest.raises(ValueError, match="cache"):
        VolumeDataset(records, cache="disk")
    with pytest.raises(ValueError, match="augment"):
        BrainVolumes(augment="heavy")
    with pytest.raises(IndexError):
        VolumeDataset(records)[len(records)]


def test_data_set_can_be_sent_to_workers(records):
    dataset = pickle.loads(pickle.dumps(VolumeDataset(records, BrainVolumes(augment="strong"))))
    assert dataset[0]["image"].shape == (4, 16, 20, 16)
