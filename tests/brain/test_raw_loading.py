import logging

import numpy as np
import pytest
import torch

from custom_apps.brain.chains import BrainVolumes
from custom_apps.brain.patients import find_patients, patient_records, read_patient
from custom_apps.brain.prepare import read_record
from custom_apps.brain.raw_loading import LoadRawd
from custom_apps.brain.volume_dataset import VolumeDataset
from custom_apps.common.errors import DataError

SETTINGS = {"size": (16, 20, 16), "spacing_mm": 12.0}


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_raw_files_give_what_prepared_files_give(egd_phantom, prepared, cache):
    raw = VolumeDataset(patient_records(egd_phantom), BrainVolumes(loader=LoadRawd(**SETTINGS)), cache=cache)[1]
    item = VolumeDataset(patient_records(prepared))[1]
    assert torch.equal(raw["image"], item["image"])
    assert torch.allclose(raw["affine"], item["affine"], atol=1e-5)
    assert raw["original_shape"].tolist() == [24, 24, 19]
    assert raw["original_affine"].shape == (4, 4)
    assert "original_shape" not in item


def test_record_beside_prepared_images(prepared, egd_phantom):
    record = read_record(patient_records(prepared)[0]["image"][0])
    assert record["original_shape"] == [24, 24, 19]
    assert read_record(find_patients(egd_phantom)[0].images()[0]) is None


def test_damaged_record_is_named(prepared_copy):
    path = prepared_copy / "EGD-0001" / "EGD-0001.json"
    path.write_text('{"original_affine": [1, 2]}')
    with pytest.raises(DataError, match=r"EGD-0001\.json"):
        read_record(read_patient(prepared_copy / "EGD-0001").images()[0])


def test_cut_brain_is_warned_of(egd_phantom, caplog):
    with caplog.at_level(logging.WARNING):
        volume = LoadRawd(size=8, spacing_mm=12.0).load(find_patients(egd_phantom)[0].images())
    assert volume.shape == (4, 8, 8, 8)
    assert "the brain is cut" in caplog.text


def test_bad_file_is_named(egd_copy):
    images = find_patients(egd_copy)[0].images()
    images[3].write_bytes(b"")
    with pytest.raises(DataError, match=r"FLAIR\.nii\.gz"):
        LoadRawd(**SETTINGS).load(images)
    assert np.array_equal(LoadRawd(**SETTINGS).size, (16, 20, 16))
