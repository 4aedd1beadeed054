"""Topologies of the published plans, for parameter counts and contract tests."""

from __future__ import annotations

CT_3D = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 14,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "kernel_sizes": [[1, 3, 3]] + [[3, 3, 3]] * 5,
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]],
    "n_conv_per_stage": [2] * 6,
    "n_conv_per_stage_decoder": [2] * 5,
}


def plan_2d(stages: int, in_channels: int, out_channels: int, width: int = 512) -> dict:
    """A 2-D plan of nnU-Net's default planner with ``stages`` stages."""
    return {
        "spatial_dims": 2,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "features_per_stage": [min(32 * 2**i, width) for i in range(stages)],
        "kernel_sizes": [[3, 3]] * stages,
        "strides": [[1, 1]] + [[2, 2]] * (stages - 1),
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }


HIPPOCAMPUS_3D = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "features_per_stage": [32, 64, 128, 256],
    "kernel_sizes": [[3, 3, 3]] * 4,
    "strides": [[1, 1, 1]] + [[2, 2, 2]] * 3,
    "n_conv_per_stage": [2] * 4,
    "n_conv_per_stage_decoder": [2] * 3,
}


def resenc(last_stride: list[int], in_channels: int, out_channels: int) -> dict:
    """The seven-stage residual-encoder plan of U-Mamba2."""
    return {
        "spatial_dims": 3,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "features_per_stage": [32, 64, 128, 256, 320, 320, 320],
        "kernel_sizes": [[3, 3, 3]] * 7,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * 5 + [last_stride],
        "n_blocks_per_stage": [1, 3, 4, 6, 6, 6, 6],
        "n_conv_per_stage_decoder": [1] * 6,
    }
