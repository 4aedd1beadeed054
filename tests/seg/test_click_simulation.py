import numpy as np
import pytest

from custom_apps.seg.click_simulation import simulate_clicks, simulate_label_clicks


def tube(shape=(40, 21, 25), first=6, last=33) -> np.ndarray:
    """A bent tube along the first axis."""
    z, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    mask = (y - 10 - 3 * np.sin(z / 6)) ** 2 + (x - 12) ** 2 < 9
    return mask & (z >= first) & (z <= last)


def draws(mask, count, number=300):
    random = np.random.RandomState(0)
    return np.stack([simulate_clicks(mask, count, random) for _ in range(number)])


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_every_click_lies_in_the_mask(count):
    mask = tube()
    found = draws(mask, count)
    assert found.shape == (300, count, 3)
    assert mask[tuple(found.reshape(-1, 3).T)].all()
    assert (np.diff(found[..., 0]) >= 0).all()


def test_first_and_last_click_are_within_five_slices_of_the_ends():
    found = draws(tube(first=6, last=33), 4)
    assert set(found[:, 0, 0]) == set(range(6, 12))
    assert set(found[:, -1, 0]) == set(range(28, 34))
    assert abs(found[:, 1, 0].mean() - (8.5 + (30.5 - 8.5) / 3)) < 0.7


def test_a_single_click_lies_about_the_middle():
    found = draws(tube(first=6, last=33), 1)[:, 0, 0]
    assert abs(found.mean() - 19.5) < 0.6
    assert found.min() >= 19 - 8
    assert found.max() <= 20 + 8


def test_clicks_lie_near_the_median_of_their_slice_but_not_on_it():
    disc = np.zeros((3, 41, 41), bool)
    y, x = np.ogrid[:41, :41]
    disc[:] = (y - 20) ** 2 + (x - 20) ** 2 < 18**2
    away = np.abs(draws(disc, 2)[..., 1:] - 20)
    assert away.max() == 5
    assert 2 < away.mean() < 3.5


@pytest.mark.parametrize("slices", [1, 2, 4, 10])
def test_structures_of_few_slices(slices):
    mask = np.zeros((12, 5, 5), bool)
    mask[1 : 1 + slices, 2, 1:4] = True
    for count in (1, 2, 7):
        found = draws(mask, count, 40)
        assert mask[tuple(found.reshape(-1, 3).T)].all()


def test_gaps_and_hollow_slices_are_no_trap():
    """A ring has no mask at its median; two separate parts have empty slices between them."""
    y, x = np.ogrid[:31, :31]
    radius = (y - 15) ** 2 + (x - 15) ** 2
    mask = np.zeros((30, 31, 31), bool)
    mask[2:5] = mask[20:29] = (radius < 196) & (radius > 169)
    found = draws(mask, 5, 100)
    assert mask[tuple(found.reshape(-1, 3).T)].all()
    assert {2, 3, 4} & set(found[:, 0, 0])


def test_flat_images():
    mask = np.zeros((20, 20), bool)
    mask[3:17, 8:12] = True
    found = draws(mask, 3, 50)
    assert found.shape == (50, 3, 2)
    assert mask[tuple(found.reshape(-1, 2).T)].all()


def test_same_seed_same_clicks():
    one, again, other = (simulate_clicks(tube(), 6, np.random.RandomState(seed)) for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_nothing_to_click_is_refused():
    with pytest.raises(ValueError, match="empty mask"):
        simulate_clicks(np.zeros((3, 3, 3), bool), 1, np.random.RandomState(0))
    with pytest.raises(ValueError, match="at least 1"):
        simulate_clicks(np.ones((3, 3, 3), bool), 0, np.random.RandomState(0))


def many_labels() -> np.ndarray:
    labels = np.full((16, 20, 24), -1, np.int16)
    labels[1:15, 1:19, 1:23] = 0
    for label in (1, 2, 4):
        labels[2:14, 3 * label : 3 * label + 3, 4:20] = label
    labels[2, 2, 2:12] = 5
    return labels


def test_clicks_carry_the_label_they_lie_on():
    labels = many_labels()
    points, ids = simulate_label_clicks(labels, (1, 2, 3, 4, 5), np.random.RandomState(0), smallest_voxels=10)
    assert set(ids) == {1, 2, 4}, "3 is absent and 5 has ten voxels"
    assert np.array_equal(labels[tuple(points.T)], ids)
    assert all(1 <= (ids == label).sum() <= 10 for label in (1, 2, 4))


def test_counts_and_skips_are_drawn_for_each_structure():
    random, counts, missing = np.random.RandomState(1), [], 0
    for _ in range(600):
        _, ids = simulate_label_clicks(many_labels(), (1, 2), random, skip_probability=0.1)
        counts += [(ids == label).sum() for label in (1, 2)]
    missing = np.mean(np.array(counts) == 0)
    assert 0.07 < missing < 0.13
    assert np.bincount(counts)[1:].min() > 75, "all numbers from 1 to 10 are as likely"
    assert max(counts) == 10
    points, ids = simulate_label_clicks(many_labels(), (1, 2), random, counts=(0, 0))
    assert points.shape == (0, 3)
    assert ids.shape == (0,)


def test_clicks_of_one_structure_do_not_hang_on_another():
    whole, without = many_labels(), many_labels()
    without[without == 1] = 0
    results = []
    for labels in (whole, without):
        points, ids = simulate_label_clicks(labels, (1, 2), np.random.RandomState(5))
        results.append(points[ids == 2])
    assert np.array_equal(*results)
