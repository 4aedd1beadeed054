"""The published rule sets of nnU-Net's planners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from custom_apps.seg.configuration import PLAIN_UNET, RESIDUAL_UNET

TORCH_RESAMPLING = "resample_torch_fornnunet"
FIRST_FEATURES = 32
LARGEST_FEATURES = {2: 512, 3: 320}


@dataclass(frozen=True)
class PlannerRules:
    """What distinguishes one planner from another.

    Attributes:
        planner_name: nnU-Net's class name.
        plans_name: nnU-Net's name of the resulting plan.
        reference_elements: for 2D and 3D, feature-map elements that fill ``reference_memory_gb``.
        reference_memory_gb: GPU memory in GB the reference stands for.
        blocks_encoder: convolutions or residual blocks per stage; the last one repeats.
        convs_decoder: convolutions per decoder stage.
        residual: residual encoder.
        largest_share: largest share of the data set's voxels in one batch.
        shrinks_by_batch: the patch may fill memory at batch size 2, instead of at the reference batch size.
        torch_resampling: linear resampling with PyTorch, no axis apart, instead of splines.
        drops_similar_lowres: no low-resolution stage when the full resolution has less than twice its voxels.
    """

    planner_name: str
    plans_name: str
    reference_elements: dict[int, float]
    reference_memory_gb: float = 8
    blocks_encoder: tuple[int, ...] = (2,)
    convs_decoder: int = 2
    residual: bool = False
    largest_share: float = 0.05
    shrinks_by_batch: bool = False
    drops_similar_lowres: bool = True
    torch_resampling: bool = False

    @property
    def network_class_name(self) -> str:
        """Import path of the network the rules were made for."""
        return RESIDUAL_UNET if self.residual else PLAIN_UNET

    @property
    def resampling(self) -> dict[str, Any]:
        """Items of a configuration that name the resampling rules; none for the default ones."""
        if not self.torch_resampling:
            return {}
        rules = {"data": False, "seg": True, "probabilities": False}
        names = {f"resampling_fn_{of}": TORCH_RESAMPLING for of in rules}
        return names | {
            f"resampling_fn_{of}_kwargs": {
                "is_seg": is_seg,
                "force_separate_z": False,
                "memefficient_seg_resampling": False,
            }
            for of, is_seg in rules.items()
        }

    def features(self, num_stages: int, spatial_dims: int) -> list[int]:
        """Channels of each stage: doubled from 32 up to a limit."""
        return [min(FIRST_FEATURES * 2**stage, LARGEST_FEATURES[spatial_dims]) for stage in range(num_stages)]

    def blocks(self, num_stages: int) -> list[int]:
        """Convolutions or blocks of each encoder stage."""
        return [self.blocks_encoder[min(stage, len(self.blocks_encoder) - 1)] for stage in range(num_stages)]


REFERENCE_BATCH = {2: 12, 3: 2}

_DEFAULT = {2: 85e6, 3: 560e6}
_RESIDUAL = {"blocks_encoder": (1, 3, 4, 6), "convs_decoder": 1, "residual": True, "largest_share": 1.0}

PLANNERS: dict[str, PlannerRules] = {
    "v2.1": PlannerRules("ExperimentPlanner", "nnUNetPlans", _DEFAULT, drops_similar_lowres=False),
    "current": PlannerRules("ExperimentPlanner", "nnUNetPlans", _DEFAULT, shrinks_by_batch=True),
    "resenc_m": PlannerRules(
        "nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans", {2: 135e6, 3: 680e6}, reference_memory_gb=8, **_RESIDUAL
    ),
    "resenc_l": PlannerRules(
        "nnUNetPlannerResEncL", "nnUNetResEncUNetLPlans", {2: 380e6, 3: 2100e6}, reference_memory_gb=24, **_RESIDUAL
    ),
    "resenc_l_torchres": PlannerRules(
        "nnUNetPlannerResEncL_torchres",
        "nnUNetResEncUNetLPlans_torchres",
        {2: 380e6, 3: 2100e6},
        reference_memory_gb=24,
        torch_resampling=True,
        **_RESIDUAL,
    ),
    "resenc_xl": PlannerRules(
        "nnUNetPlannerResEncXL", "nnUNetResEncUNetXLPlans", {2: 560e6, 3: 3600e6}, reference_memory_gb=40, **_RESIDUAL
    ),
}
"""``v2.1`` is U-Mamba's, ``current`` nnU-Net's default since v2.3, the others its residual-encoder presets.

``resenc_l_torchres`` is U-Mamba2's.
"""
