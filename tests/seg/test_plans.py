import json

import pytest

from custom_apps.common.errors import DataError
from custom_apps.seg.plans import Plans
from tests.seg.plan_example import configuration, plans


def v21_entry(**changes):
    entry = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [40, 224, 192],
        "median_image_size_in_voxels": [97.0, 512.0, 512.0],
        "spacing": [2.5, 0.8, 0.8],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 32,
        "n_conv_per_stage_encoder": [2, 2, 2, 2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2, 2, 2, 2],
        "num_pool_per_axis": [3, 5, 5],
        "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]],
        "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
        "unet_max_num_features": 320,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "batch_dice": True,
    }
    return entry | changes


def plan_file(**configurations):
    return plans().to_dict() | {"configurations": configurations}


def test_layout_of_v21():
    found = Plans.from_dict(plan_file(**{"3d_fullres": v21_entry()})).configuration("3d_fullres")
    assert found.features_per_stage == [32, 64, 128, 256, 320, 320]
    assert found.strides[1] == [1, 2, 2]
    assert found.kernel_sizes[0] == [1, 3, 3]
    assert found.n_conv_per_stage == [2] * 6
    assert found.network_class_name.endswith("PlainConvUNet")
    assert found.batch_dice
    assert not found.residual_encoder


def test_what_is_written_is_the_later_layout_and_says_the_same(tmp_path):
    before = Plans.from_dict(plan_file(**{"3d_fullres": v21_entry()}))
    before.write(tmp_path / "plans.json")
    entry = json.loads((tmp_path / "plans.json").read_text())["configurations"]["3d_fullres"]
    assert "pool_op_kernel_sizes" not in entry
    assert entry["architecture"]["arch_kwargs"]["n_stages"] == 6
    assert entry["architecture"]["_kw_requires_import"] == ["conv_op", "norm_op", "dropout_op", "nonlin"]
    after = Plans.read(tmp_path / "plans.json")
    assert after.configuration("3d_fullres") == before.configuration("3d_fullres")


def test_residual_encoders_count_blocks():
    found = configuration(residual_encoder=True, n_conv_per_stage=[1, 3, 4])
    entry = found.to_dict()
    assert entry["architecture"]["arch_kwargs"]["n_blocks_per_stage"] == [1, 3, 4]
    assert Plans.from_dict(plan_file(**{"3d_fullres": entry})).configuration("3d_fullres") == found


def test_unknown_network_arguments_are_kept():
    found = configuration(network_class_name="some.module.Network", network_arguments={"block": "some.Block"})
    again = Plans.from_dict(plan_file(**{"3d_fullres": found.to_dict()})).configuration("3d_fullres")
    assert again.network_arguments == {"block": "some.Block"}
    assert again.network_class_name == "some.module.Network"


def test_inheritance():
    base, small = configuration().to_dict(), {"inherits_from": "3d_fullres", "batch_size": 5}
    smaller = {"inherits_from": "small", "patch_size": [8, 8, 8]}
    content = plan_file(**{"3d_fullres": base, "small": small, "smaller": smaller})
    found = Plans.from_dict(content)
    assert found.configuration("small").batch_size == 5
    assert found.configuration("smaller").batch_size == 5
    assert found.configuration("smaller").patch_size == [8, 8, 8]
    assert found.to_dict()["configurations"]["smaller"] == smaller


def test_replacing_a_configuration():
    changed = plans().with_configuration(configuration(batch_size=9))
    assert changed.configuration("3d_fullres").batch_size == 9
    assert plans().configuration("3d_fullres").batch_size == 2


def test_missing_items_are_named():
    for key in ("transpose_forward", "configurations", "plans_name"):
        content = plans().to_dict()
        del content[key]
        with pytest.raises(DataError, match=f"lacks {key}"):
            Plans.from_dict(content, "some/plans.json")
    for key in ("batch_size", "pool_op_kernel_sizes", "spacing"):
        entry = v21_entry()
        del entry[key]
        with pytest.raises(DataError, match=f"configuration '3d_fullres' lacks '{key}'"):
            Plans.from_dict(plan_file(**{"3d_fullres": entry}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": [40, 224, 200]}, "patch_size is 200 on axis 2, expected a multiple of 32"),
        ({"spacing": [0.8, 0.8]}, "spacing has 2 entries, expected 3"),
        ({"conv_kernel_sizes": [[3, 3, 3]]}, "kernel_sizes has 1 entries, expected 6"),
        ({"n_conv_per_stage_decoder": [2] * 6}, "n_conv_per_stage_decoder has 6 entries, expected 5"),
        ({"use_mask_for_norm": []}, "use_mask_for_norm has 0 entries"),
    ],
)
def test_contradictions(changes, message):
    with pytest.raises(DataError, match=message):
        Plans.from_dict(plan_file(**{"3d_fullres": v21_entry(**changes)}))


def test_unknown_configuration_and_circles():
    with pytest.raises(DataError, match="no configuration '2d' \\(expected one of 3d_fullres"):
        plans().configuration("2d")
    content = plan_file(a={"inherits_from": "b"}, b={"inherits_from": "a"})
    with pytest.raises(DataError, match="inherits from itself"):
        Plans.from_dict(content)


def test_unreadable_files(tmp_path):
    with pytest.raises(DataError, match=r"plans\.json: cannot be read"):
        Plans.read(tmp_path / "plans.json")
    (tmp_path / "plans.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        Plans.read(tmp_path / "plans.json")
