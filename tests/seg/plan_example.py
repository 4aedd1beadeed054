"""A plan with one small configuration, for tests."""

from __future__ import annotations

from custom_apps.seg.configuration import Configuration, default_network_arguments
from custom_apps.seg.plans import Plans

STATISTICS = {
    "0": {
        "mean": 100.0,
        "std": 20.0,
        "median": 100.0,
        "min": 0.0,
        "max": 300.0,
        "percentile_00_5": 50.0,
        "percentile_99_5": 150.0,
    }
}


def configuration(**changes) -> Configuration:
    items = {
        "name": "3d_fullres",
        "data_identifier": "nnUNetPlans_3d_fullres",
        "spacing": [2.0, 1.0, 1.0],
        "patch_size": [8, 16, 16],
        "batch_size": 2,
        "median_image_size_in_voxels": [8.0, 16.0, 16.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "batch_dice": False,
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "features_per_stage": [32, 64, 128],
        "n_conv_per_stage": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        **default_network_arguments(3),
    }
    return Configuration(**(items | changes))


def plans(transpose=(0, 1, 2), **changes) -> Plans:
    found = configuration(**changes)
    return Plans(
        dataset_name="Dataset007_Tiny",
        plans_name="nnUNetPlans",
        original_median_spacing_after_transp=[2.0, 1.0, 1.0],
        original_median_shape_after_transp=[8, 16, 16],
        image_reader_writer="SimpleITKIO",
        transpose_forward=list(transpose),
        transpose_backward=[list(transpose).index(axis) for axis in range(3)],
        experiment_planner_used="ExperimentPlanner",
        foreground_intensity_properties_per_channel=STATISTICS,
        configurations={found.name: found.to_dict()},
    )
