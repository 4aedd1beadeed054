import numpy as np
import pytest

from custom_apps.seg.normalization import normalize
from custom_apps.seg.preprocessing import preprocess_case, target_spacing
from custom_apps.seg.resampling import resample
from tests.seg.plan_example import STATISTICS, configuration, plans
from tests.seg.raw_data import volume


def case(shape=(6, 14, 12)):
    image, label = volume(0, shape)
    return image[None], label[None].astype(np.int16)


PROPERTIES = {"spacing": [3.0, 1.0, 1.25], "note": "kept"}


def test_steps_in_order():
    image, seg = case()
    found, labels, properties = preprocess_case(image, seg, PROPERTIES, plans(), plans().configuration("3d_fullres"))
    box = ((1, 6), (2, 13), (1, 10))
    crop = tuple(slice(*axis) for axis in box)
    expected = normalize(image[0][crop], "ZScoreNormalization")[None]
    np.testing.assert_allclose(found, resample(expected, (8, 11, 11), PROPERTIES["spacing"], (2, 1, 1)), atol=1e-5)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert labels.dtype == np.int8
    assert labels.shape == (1, 8, 11, 11)
    assert set(np.unique(labels)) <= {-1, 0, 1, 2}
    assert properties == PROPERTIES | {
        "shape_before_cropping": [6, 14, 12],
        "bbox_used_for_cropping": [list(axis) for axis in box],
        "shape_after_cropping_and_before_resampling": [5, 11, 9],
        "shape_after_resampling": [8, 11, 11],
        "spacing_before_resampling": [3.0, 1.0, 1.25],
        "spacing_after_resampling": [2.0, 1.0, 1.0],
    }


def test_transposition_commutes_with_the_rest():
    image, seg = case()
    straight = preprocess_case(image, seg, PROPERTIES, plans(), plans().configuration("3d_fullres"))
    turned_plans = plans(transpose=(2, 0, 1))
    turned_properties = {"spacing": [1.0, 1.25, 3.0]}
    turned = preprocess_case(
        image.transpose(0, 2, 3, 1),
        seg.transpose(0, 2, 3, 1),
        turned_properties,
        turned_plans,
        turned_plans.configuration("3d_fullres"),
    )
    np.testing.assert_allclose(turned[0], straight[0], atol=1e-6)
    np.testing.assert_array_equal(turned[1], straight[1])
    assert turned[2]["bbox_used_for_cropping"] == straight[2]["bbox_used_for_cropping"]


def test_inference_needs_no_label_map():
    image, seg = case()
    with_labels = preprocess_case(image, seg, PROPERTIES, plans(), plans().configuration("3d_fullres"))
    found, labels, _ = preprocess_case(image, None, PROPERTIES, plans(), plans().configuration("3d_fullres"))
    assert labels is None
    np.testing.assert_array_equal(found, with_labels[0])


def test_masked_normalization_leaves_the_outside_zero():
    image, _ = case()
    image[0, 1, 2, 1:3] = 0
    masked = plans(use_mask_for_norm=[True], spacing=[3.0, 1.0, 1.25])
    found, _, _ = preprocess_case(image, None, PROPERTIES, masked, masked.configuration("3d_fullres"))
    assert (found[0, 0, 0, :2] == 0).all()
    assert found[found != 0].mean() == pytest.approx(0, abs=1e-5)


def test_ct_statistics_come_from_the_plan():
    image, _ = case()
    ct = plans(normalization_schemes=["CTNormalization"], spacing=[3.0, 1.0, 1.25])
    found, _, _ = preprocess_case(image, None, PROPERTIES, ct, ct.configuration("3d_fullres"))
    low, high = (STATISTICS["0"][key] for key in ("percentile_00_5", "percentile_99_5"))
    np.testing.assert_allclose(found[0], (np.clip(image[0, 1:, 2:-1, 1:-2], low, high) - 100) / 20, atol=1e-6)


def test_2d_configurations_keep_the_first_spacing():
    flat = configuration(
        name="2d",
        spacing=[1.0, 1.0],
        patch_size=[16, 16],
        strides=[[1, 1], [2, 2]],
        kernel_sizes=[[3, 3], [3, 3]],
        features_per_stage=[8, 16],
        n_conv_per_stage=[2, 2],
        n_conv_per_stage_decoder=[2],
    )
    assert target_spacing([3.0, 1.0, 1.25], flat) == [3.0, 1.0, 1.0]
    found, _, properties = preprocess_case(*case(), PROPERTIES, plans(), flat)
    assert found.shape == (1, 5, 11, 11)
    assert properties["spacing_after_resampling"] == [3.0, 1.0, 1.0]


def test_wrong_number_of_channels():
    image, _ = case()
    with pytest.raises(ValueError, match="2 channels, expected 1"):
        preprocess_case(np.concatenate([image, image]), None, PROPERTIES, plans(), plans().configuration("3d_fullres"))


def test_input_is_left_alone():
    image, seg = case()
    before = image.copy(), seg.copy()
    preprocess_case(image, seg, PROPERTIES, plans(), plans().configuration("3d_fullres"))
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(seg, before[1])
