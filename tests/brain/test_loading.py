import nibabel
import numpy as np
import pytest
import torch

from custom_apps.brain.contrasts import CONTRASTS
from custom_apps.brain.loading import LoadPreparedd
from custom_apps.brain.patients import patient_records
from custom_apps.common.errors import DataError


def write(path, array, affine=None):
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return str(path)


@pytest.fixture
def files(tmp_path):
    random = np.random.default_rng(0)
    arrays = random.integers(0, 256, (4, 3, 5, 4)).astype(np.uint8)
    affine = np.diag([-2.0, 2.0, 3.0, 1.0])
    return arrays, [write(tmp_path / f"p_{name}.nii.gz", a, affine) for name, a in zip(CONTRASTS, arrays, strict=True)]


def test_stacks_contrasts_and_keeps_the_affine(files):
    arrays, paths = files
    volume = LoadPreparedd()({"image": paths})["image"]
    assert volume.dtype == torch.uint8
    assert np.array_equal(volume.numpy(), arrays)
    assert np.array_equal(volume.affine.numpy(), np.diag([-2.0, 2.0, 3.0, 1.0]))


def test_one_file_with_four_channels(files, tmp_path):
    arrays, paths = files
    np.save(tmp_path / "p.npy", arrays)
    nifti = write(tmp_path / "p.nii.gz", np.moveaxis(arrays, 0, -1))
    for path in (str(tmp_path / "p.npy"), nifti):
        assert torch.equal(LoadPreparedd().load(path).as_tensor(), LoadPreparedd().load(paths).as_tensor())


def test_prepared_phantom_has_the_size_asked_for(prepared):
    record = patient_records(prepared)[0]
    assert LoadPreparedd(size=(16, 20, 16)).load(record["image"]).shape == (4, 16, 20, 16)
    with pytest.raises(DataError, match=r"_t1.nii.gz: volume has shape \(16, 20, 16\)"):
        LoadPreparedd(size=(16, 16, 16)).load(record["image"])


def bad(tmp_path, name):
    path = tmp_path / "p_t2.nii.gz"
    match name:
        case "absent":
            path.unlink()
        case "truncated":
            path.write_bytes(path.read_bytes()[:60])
        case "other shape":
            write(path, np.zeros((3, 5, 5), np.uint8), np.diag([-2.0, 2.0, 3.0, 1.0]))
        case "other place":
            write(path, np.zeros((3, 5, 4), np.uint8), np.diag([2.0, 2.0, 3.0, 1.0]))
        case "raw":
            write(path, np.full((3, 5, 4), 700, np.int16), np.diag([-2.0, 2.0, 3.0, 1.0]))
        case "fractions":
            write(path, np.full((3, 5, 4), 0.5, np.float32), np.diag([-2.0, 2.0, 3.0, 1.0]))
        case "nan":
            write(path, np.full((3, 5, 4), np.nan, np.float32), np.diag([-2.0, 2.0, 3.0, 1.0]))


@pytest.mark.parametrize("damage", ["absent", "truncated", "other shape", "other place", "raw", "fractions", "nan"])
def test_damage_names_the_file(files, tmp_path, damage):
    bad(tmp_path, damage)
    with pytest.raises(DataError, match=r"p_t2.nii.gz"):
        LoadPreparedd().load(files[1])


def test_wrong_number_of_files(files):
    with pytest.raises(DataError, match="3 files"):
        LoadPreparedd().load(files[1][:3])
