import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from custom_apps.seg.resampling import resample, resample_segmentation
from custom_apps.seg.torch_resampling import resample_linearly
from tests.seg.plan_example import configuration

ISO, ANISO = ((1.0, 1.0, 1.0), (0.8, 0.8, 0.8)), ((5.0, 1.0, 1.0), (2.5, 0.8, 0.8))


def test_images_are_trilinear():
    image = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
    result = resample_linearly(image, (6, 7, 5), *ISO)
    expected = interpolate(torch.from_numpy(image)[None], (6, 7, 5), mode="trilinear")[0]
    np.testing.assert_array_equal(result, expected.numpy())
    np.testing.assert_allclose(result, resample(image, (6, 7, 5), *ISO, order=1), atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_coarse_axis_is_nearest(axis):
    image = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
    new_shape = [6, 7, 8]
    spacing, new = np.roll(ANISO[0], axis), np.roll(ANISO[1], axis)
    result = resample_linearly(image, new_shape, spacing, new)
    expected = resample(image, new_shape, spacing, new, order=1)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert not np.allclose(resample_linearly(image, new_shape, spacing, new, force_separate_z=False), result)


@pytest.mark.parametrize("spacings", [ISO, ANISO])
def test_label_maps_take_the_largest_share(spacings):
    seg = np.random.default_rng(0).choice([-1, 0, 1, 4], size=(1, 6, 9, 8)).astype(np.int8)
    result = resample_linearly(seg, (7, 11, 13), *spacings, is_seg=True)
    reference = resample(seg, (7, 11, 13), *spacings, is_seg=True, order=1)
    assert result.dtype == np.int8
    # Shares are compared in half precision, so the two rules part only where they nearly tie.
    assert (result == reference).mean() > 0.98


def test_memory_efficient_label_maps_leave_undecided_voxels_zero():
    seg = np.array([[1, 2], [3, 4]], np.int16)[None, None]
    assert resample_linearly(seg, (1, 1, 1), *ISO, is_seg=True).item() == 1
    assert resample_linearly(seg, (1, 1, 1), *ISO, is_seg=True, memefficient_seg_resampling=True).item() == 0
    clear = np.array([[5, 5], [5, 4]], np.int16)[None, None]
    assert resample_linearly(clear, (1, 1, 1), *ISO, is_seg=True, memefficient_seg_resampling=True).item() == 5


def test_plans_choose_the_rule():
    seg = np.random.default_rng(0).choice([0, 1], size=(1, 4, 5, 6)).astype(np.int16)
    chosen = configuration(
        resampling_fn_seg="resample_torch_fornnunet",
        resampling_fn_seg_kwargs={"is_seg": True, "force_separate_z": False, "memefficient_seg_resampling": False},
    )
    result = resample_segmentation(seg, (6, 7, 8), *ISO, chosen)
    np.testing.assert_array_equal(result, resample_linearly(seg, (6, 7, 8), *ISO, is_seg=True, force_separate_z=False))
