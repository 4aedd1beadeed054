import json
import math

import nibabel
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from custom_apps.brain.map_files import brain_of, on_grid, write_map_files
from custom_apps.brain.map_numbers import map_numbers
from custom_apps.brain.patients import find_patients, patient_records
from custom_apps.brain.volume_dataset import VolumeDataset
from custom_apps.common.errors import DataError
from custom_apps.common.volume_file import read_volume


def test_numbers_by_hand():
    values, mask = np.zeros((10, 10, 10)), np.zeros((10, 10, 10))
    mask[:2] = 1
    values[:2] = 3
    values[5:] = 1
    values[0, 0, :5], values[9, 0, :5] = 10, 10
    numbers = map_numbers(values, mask)
    inside, outside = values[:2], values[2:]
    assert numbers["mean_inside"] == pytest.approx(inside.mean())
    assert numbers["mean_outside"] == pytest.approx(outside.mean())
    assert numbers["ratio"] == pytest.approx(inside.mean() / outside.mean())
    assert numbers["auc"] == pytest.approx(roc_auc_score(mask.ravel(), values.ravel()))
    assert numbers["top_hit_rate"] == pytest.approx(0.5)
    assert numbers["tumor_share"] == pytest.approx(0.2)


def test_perfect_map_and_ties():
    mask = np.zeros((8, 8, 8))
    mask[2:5, 2:5, 2:5] = 4
    perfect = map_numbers((mask > 0).astype(float), mask)
    assert perfect["auc"] == 1
    assert perfect["top_hit_rate"] == 1
    flat = map_numbers(np.ones((8, 8, 8)), mask)
    assert flat["auc"] == 0.5
    assert flat["top_hit_rate"] == pytest.approx(flat["tumor_share"])


def test_only_voxels_with_a_value_within_the_brain_count():
    values, mask, within = np.arange(27.0).reshape(3, 3, 3), np.zeros((3, 3, 3)), np.ones((3, 3, 3), bool)
    mask[2, 2, 1:] = 1
    values[0], within[1] = np.nan, False
    numbers = map_numbers(values, mask, within)
    assert numbers["mean_outside"] == pytest.approx(np.arange(18, 25).mean())
    assert numbers["tumor_share"] == pytest.approx(2 / 9)


def test_no_tumor_no_numbers():
    assert all(math.isnan(value) for value in map_numbers(np.ones((2, 2, 2)), np.zeros((2, 2, 2))).values())
    with pytest.raises(ValueError, match="not on one grid"):
        map_numbers(np.ones((2, 2, 2)), np.zeros((2, 2, 3)))


@pytest.fixture
def example(prepared):
    record = patient_records(prepared)[0]
    item = VolumeDataset([record])[0]
    mask = read_volume(record["mask"]).array
    preparation = json.loads((prepared / record["case"] / f"{record['case']}.json").read_text())
    values = np.where(mask > 0, 2.0, 1.0) + np.arange(16).reshape(16, 1, 1) / 100
    return item, mask, preparation, values


def test_files(example, egd_phantom, tmp_path):
    item, mask, record, values = example
    files = write_map_files(values, item["image"], item["affine"], tmp_path, item["case"], mask, record)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in files.values())
    prepared = nibabel.load(files["prepared"])
    assert np.allclose(prepared.get_fdata(), values)
    assert np.allclose(prepared.affine, item["affine"])
    original, raw = nibabel.load(files["original"]), nibabel.load(find_patients(egd_phantom)[0].files["t1"])
    assert original.shape == raw.shape
    assert np.allclose(original.affine, raw.affine)
    numbers = json.loads(files["numbers"].read_text())
    assert numbers["within"] == "brain"
    assert numbers["auc"] > 0.99
    assert files["picture"].stat().st_size > 10_000
    with pytest.raises(DataError, match="not overwritten"):
        write_map_files(values, item["image"], item["affine"], tmp_path, item["case"], mask, record)


def test_without_mask_and_record(example, tmp_path):
    item, _, _, values = example
    values[:4] = np.nan
    files = write_map_files(values, item["image"], item["affine"], tmp_path, item["case"])
    assert set(files) == {"prepared", "picture"}


def test_map_comes_to_lie_on_the_tumor_in_the_original_space(example, egd_phantom):
    item, _, record, values = example
    shape, affine = record["original_shape"], np.array(record["original_affine"])
    back = on_grid(values, item["affine"].numpy(), shape, affine)
    raw_mask = read_volume(find_patients(egd_phantom)[0].files["seg"]).array
    there = np.isfinite(back)
    assert there.mean() > 0.5
    assert back[there & (raw_mask > 0)].mean() > 1.8
    assert back[there & (raw_mask == 0)].mean() < 1.2


def test_other_orientation_and_outside():
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 1
    assert np.array_equal(on_grid(values, np.eye(4), (2, 3, 4), flipped), values[::-1])
    shifted = np.eye(4)
    shifted[0, 3] = 1
    result = on_grid(values, np.eye(4), (2, 3, 4), shifted)
    assert np.array_equal(result[0], values[1])
    assert np.isnan(result[1]).all()


def test_brain_of_a_normalized_volume(example):
    item = example[0]
    image = item["image"].numpy()
    assert np.array_equal(brain_of(image), (image > image.min()).any(axis=0))


def test_shapes_must_agree(example, tmp_path):
    item, mask, _, values = example
    with pytest.raises(ValueError, match="not on one grid"):
        write_map_files(values[1:], item["image"], item["affine"], tmp_path, "x", mask)
