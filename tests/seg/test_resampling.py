import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from custom_apps.seg.resampling import nearest_positions, resample, resample_logits, separate_axis, shape_at_spacing
from tests.seg.plan_example import plans

ISO = ((1.0, 1.0, 1.0), (0.8, 0.8, 0.8))


def smooth(shape, seed=0):
    return gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)[None].astype(np.float32)


def test_shape_at_spacing_rounds_half_to_even_and_never_to_nothing():
    assert shape_at_spacing((10, 10, 10), (1, 1, 1), (4, 2, 0.8)) == (2, 5, 12)
    assert shape_at_spacing((1, 5, 5), (1, 1, 1), (9, 1, 1)) == (1, 5, 5)


@pytest.mark.parametrize(
    ("spacing", "new", "force", "axis"),
    [
        ((1, 1, 1), (1, 1, 1), None, None),
        ((3, 1, 1), (1, 1, 1), None, None),
        ((3.1, 1, 1), (1, 1, 1), None, 0),
        ((1, 3.1, 1), (1, 1, 1), None, 1),
        ((1, 1, 1), (1, 1, 5), None, 2),
        ((4, 1, 1), (1, 1, 5), None, 0),
        ((1, 4, 4), (1, 1, 1), None, None),
        ((4, 1, 1), (1, 1, 1), False, None),
        ((2, 1, 1), (1, 1, 1), True, 0),
        ((1, 1, 1), (1, 1, 1), True, None),
    ],
)
def test_which_axis_is_apart(spacing, new, force, axis):
    assert separate_axis(spacing, new, force) == axis


def test_same_shape_is_returned_as_it_is():
    image = smooth((4, 5, 6))
    np.testing.assert_array_equal(resample(image, (4, 5, 6), *ISO), image)


@pytest.mark.parametrize("order", [1, 3])
def test_a_ramp_stays_a_ramp(order):
    ramp = np.arange(20.0)[None, None, None] * np.ones((1, 6, 7, 1))
    result = resample(ramp, (6, 7, 30), *ISO, order=order)
    expected = 20 / 30 * (np.arange(30) + 0.5) - 0.5
    np.testing.assert_allclose(result[0, 3, 3, 6:-6], expected[6:-6], atol=0.02)
    assert result.dtype == np.float32


def test_range_is_kept():
    noise = np.random.default_rng(0).normal(size=(1, 6, 7, 8))
    result = resample(noise, (9, 10, 11), *ISO, order=3)
    assert result.min() >= np.float32(noise.min())
    assert result.max() <= np.float32(noise.max())


def test_along_a_coarse_axis_slices_are_repeated_not_mixed():
    image = smooth((4, 8, 9))
    result = resample(image, (8, 12, 13), (5, 1, 1), (2.5, 0.7, 0.7))
    np.testing.assert_array_equal(result[0, 0], result[0, 1])
    in_plane = resample(image[:, 2:3], (1, 12, 13), (5, 1, 1), (5, 0.7, 0.7), order=3)
    np.testing.assert_allclose(result[0, 4], in_plane[0, 0], atol=1e-6)


def test_coarse_axis_may_be_any():
    image = smooth((4, 8, 9))
    expected = resample(image, (8, 12, 13), (5, 1, 1), (2.5, 0.7, 0.7))
    for axis in (1, 2):
        turned = np.moveaxis(image, 1, axis + 1)
        spacing, new = np.roll((5, 1, 1), axis), np.roll((2.5, 0.7, 0.7), axis)
        shape = np.moveaxis(np.empty((8, 12, 13)), 0, axis).shape
        np.testing.assert_allclose(np.moveaxis(resample(turned, shape, spacing, new), axis + 1, 1), expected, atol=1e-6)


def test_nearest_positions():
    assert nearest_positions(4, 8).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert nearest_positions(8, 4).tolist() == [1, 3, 5, 7]
    assert nearest_positions(1, 3).tolist() == [0, 0, 0]


def test_label_maps_hold_only_their_labels():
    seg = np.random.default_rng(0).choice([-1, 0, 2, 5], size=(1, 6, 9, 8)).astype(np.int16)
    result = resample(seg, (9, 7, 13), *ISO, is_seg=True, order=1)
    assert result.dtype == np.int16
    assert set(np.unique(result)) <= {-1, 0, 2, 5}


def test_a_voxel_between_many_labels_takes_one_of_them():
    seg = np.array([[1, 2], [3, 4]], np.int16)[None, None]
    assert resample(seg, (1, 1, 1), *ISO, is_seg=True, order=1).item() == 4
    seg = np.array([[3, 1], [1, 1]], np.int16)[None, None]
    assert resample(seg, (1, 1, 1), *ISO, is_seg=True, order=1).item() == 1


def test_ties_follow_geometry_not_label_numbers():
    for left, right in ((0, 1), (1, 0), (7, 3)):
        seg = np.array([left, right], np.int16)[None, None, None]
        assert resample(seg, (1, 1, 1), *ISO, is_seg=True, order=1).item() == right


def test_a_large_label_survives_there_and_back():
    seg = np.zeros((1, 12, 14, 16), np.int16)
    seg[0, 3:9, 4:10, 5:12] = 3
    there = resample(seg, (18, 21, 24), *ISO, is_seg=True, order=1)
    back = resample(there, (12, 14, 16), ISO[1], ISO[0], is_seg=True, order=1)
    np.testing.assert_array_equal(back, seg)


def test_logits_by_the_configuration():
    configuration = plans().configuration("3d_fullres")
    logits = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)
    expected = resample(logits, (6, 7, 8), *ISO, order=1)
    ours = resample_logits(torch.from_numpy(logits).requires_grad_(), (6, 7, 8), *ISO, configuration)
    np.testing.assert_array_equal(ours, expected)


def test_unknown_rule_and_order():
    configuration = plans(resampling_fn_probabilities="resample_somehow").configuration("3d_fullres")
    with pytest.raises(ValueError, match="unknown resampling rule 'resample_somehow'"):
        resample_logits(smooth((4, 5, 6)), (5, 6, 7), *ISO, configuration)
    with pytest.raises(ValueError, match="order_z is 1"):
        resample(smooth((4, 5, 6)), (5, 6, 7), (5, 1, 1), (4, 1, 1), order_z=1)
    configuration = plans(resampling_fn_probabilities="no_resampling_data_or_seg_to_shape").configuration("3d_fullres")
    assert resample_logits(smooth((4, 5, 6)), (4, 5, 6), *ISO, configuration).shape == (1, 4, 5, 6)
