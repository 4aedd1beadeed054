import numpy as np
import pytest

from custom_apps.common.errors import DataError
from custom_apps.seg.fingerprint import Fingerprint, extract_fingerprint
from custom_apps.seg.raw_dataset import RawDataset
from tests.seg.raw_data import raw_dataset, volume, write


def test_fingerprint_of_a_small_data_set(tmp_path):
    found = extract_fingerprint(RawDataset(raw_dataset(tmp_path, cases=3, channels=2)), foreground_samples=30_000)
    assert found.shapes_after_crop == [[4, 11, 9], [5, 11, 9], [4, 11, 9]]
    assert found.spacings == [[3.0, 1.0, 1.25]] * 3
    assert found.median_relative_size_after_cropping == pytest.approx(4 * 11 * 9 / (5 * 14 * 12))
    foreground = np.concatenate([(v := volume(n, (5 + n % 2, 14, 12)))[0][v[1] > 0] for n in range(3)])
    first, second = (found.foreground_intensity_properties_per_channel[key] for key in "01")
    assert first["min"] == foreground.min()
    assert first["max"] == foreground.max()
    assert first["mean"] == pytest.approx(foreground.mean(), rel=0.02)
    assert first["std"] == pytest.approx(foreground.std(), rel=0.05)
    assert second["max"] == 2 * first["max"]


def test_processes_do_not_change_the_result(tmp_path):
    dataset = RawDataset(raw_dataset(tmp_path))
    assert extract_fingerprint(dataset, 2, 3000) == extract_fingerprint(dataset, 1, 3000)


def test_file(tmp_path):
    found = extract_fingerprint(RawDataset(raw_dataset(tmp_path)), foreground_samples=300)
    found.write(tmp_path / "fingerprint.json")
    assert Fingerprint.read(tmp_path / "fingerprint.json") == found
    (tmp_path / "fingerprint.json").write_text("{}")
    with pytest.raises(DataError, match=r"fingerprint\.json: cannot be read"):
        Fingerprint.read(tmp_path / "fingerprint.json")


def test_data_sets_without_foreground_are_refused(tmp_path):
    folder = raw_dataset(tmp_path, cases=1)
    write(np.zeros((5, 14, 12), np.uint8), folder / "labelsTr" / "case_0.nii.gz")
    with pytest.raises(DataError, match="no training case has a foreground voxel"):
        extract_fingerprint(RawDataset(folder), foreground_samples=100)


def test_label_map_of_another_shape(tmp_path):
    folder = raw_dataset(tmp_path, cases=1)
    write(volume(0, (6, 14, 12))[1], folder / "labelsTr" / "case_0.nii.gz")
    with pytest.raises(DataError, match=r"case_0\.nii\.gz: shape is \(6, 14, 12\)"):
        extract_fingerprint(RawDataset(folder), foreground_samples=100)
