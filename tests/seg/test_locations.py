import numpy as np

from custom_apps.seg import locations
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.locations import read_locations, regions_to_locate, sample_locations, write_locations


def test_every_voxel_of_small_classes():
    seg = np.zeros((1, 5, 6, 7), np.int8)
    seg[0, 1:3, 2:4, 3:6] = 1
    seg[0, 4, 5, 6] = 2
    found = sample_locations(seg, [1, 2, 3, (1, 2)])
    assert {tuple(row) for row in found[1]} == {tuple(row) for row in np.argwhere(seg == 1)}
    assert found[2].tolist() == [[0, 4, 5, 6]]
    assert found[3].shape == (0, 4)
    assert len(found[(1, 2)]) == 13


def test_large_classes_are_sampled_without_repetition(monkeypatch):
    monkeypatch.setattr(locations, "LARGEST_SAMPLE", 50)
    seg = np.ones((1, 10, 10, 10), np.int8)
    rows = sample_locations(seg, [1])[1]
    assert len({tuple(row) for row in rows}) == len(rows) == 50
    monkeypatch.setattr(locations, "SMALLEST_SHARE", 0.1)
    assert len(sample_locations(seg, [1])[1]) == 100


def test_seeded():
    seg = np.random.default_rng(0).integers(0, 2, (1, 30, 40, 50)).astype(np.int8)
    first, second = sample_locations(seg, [1]), sample_locations(seg, [1])
    assert len(first[1]) == 10_000
    np.testing.assert_array_equal(first[1], second[1])


def test_which_regions():
    assert regions_to_locate(LabelManager({"background": 0, "a": 1, "b": 2})) == [1, 2]
    regions = LabelManager({"background": 0, "whole": [1, 2], "core": 2}, [1, 2])
    assert regions_to_locate(regions) == [(1, 2), (2,)]
    assert regions_to_locate(LabelManager({"background": 0, "a": 1, "ignore": 2})) == [1, (-1, 0, 1)]


def test_file(tmp_path):
    rows = np.array([[0, 1, 2, 3]], np.int32)
    given = {1: rows, (1, 2): rows + 1, (2,): rows + 2, (-1, 0, 1): rows[:0]}
    write_locations(given, tmp_path / "x.npz")
    found = read_locations(tmp_path / "x.npz")
    assert found.keys() == given.keys()
    for key, value in given.items():
        np.testing.assert_array_equal(found[key], value)
