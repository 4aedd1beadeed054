"""A model whose network reads labels off the intensities, and images for it, so that the right answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from torch import nn

from custom_apps.seg.configuration import Configuration
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.model_folder import ModelFolder
from custom_apps.seg.plans import Plans

STEP = 100.0
"""Intensity of label k is k steps; the background of the body is half a step, that of the air around it 0."""

LABELS = {"background": 0, "liver": 1, "kidney": 2}


class IntensityNetwork(nn.Module):
    """Logits that are largest for the label whose normalized intensity is nearest, in as many axes as the input has."""

    def __init__(self, levels=(0.5, 1.0, 2.0), as_list=False):
        super().__init__()
        self.levels, self.as_list = nn.Parameter(torch.tensor(levels)), as_list

    def forward(self, x):
        levels = self.levels.view(1, -1, *[1] * (x.dim() - 2))
        logits = -10 * (x[:, :1] - levels).abs()
        return [logits, logits[..., ::2]] if self.as_list else logits


def model(
    folder: Path | str = ".",
    spacing=(2.0, 1.0, 1.0),
    patch_size=(8, 16, 16),
    transpose=(0, 1, 2),
    labels=LABELS,
    channels=1,
    file_ending=".nii.gz",
    **dataset,
) -> ModelFolder:
    axes, stages = len(patch_size), 2
    configuration = Configuration(
        name="2d" if axes == 2 else "3d_fullres",
        data_identifier="phantom",
        spacing=list(spacing),
        patch_size=list(patch_size),
        batch_size=2,
        median_image_size_in_voxels=list(map(float, patch_size)),
        normalization_schemes=["CTNormalization"] * channels,
        use_mask_for_norm=[False] * channels,
        batch_dice=False,
        strides=[[1] * axes, [2] * axes],
        kernel_sizes=[[3] * axes] * stages,
        features_per_stage=[4, 8],
        n_conv_per_stage=[1] * stages,
        n_conv_per_stage_decoder=[1],
        network_class_name="custom_networks.nets.umamba.UMambaBot",
        network_arguments={"mixer": "none"},
    )
    statistics = {"mean": 0.0, "std": STEP, "percentile_00_5": 0.0, "percentile_99_5": 10 * STEP}
    plans = Plans(
        dataset_name="Dataset900_Phantom",
        plans_name="nnUNetPlans",
        original_median_spacing_after_transp=[1.0, 1.0, 1.0],
        original_median_shape_after_transp=[8, 16, 16],
        image_reader_writer="SimpleITKIO",
        transpose_forward=list(transpose),
        transpose_backward=np.argsort(transpose).tolist(),
        experiment_planner_used="ExperimentPlanner",
        foreground_intensity_properties_per_channel={str(c): statistics for c in range(channels)},
        configurations={configuration.name: configuration.to_dict()},
    )
    description = {
        "channel_names": {str(c): "CT" for c in range(channels)},
        "labels": labels,
        "numTraining": 1,
        "file_ending": file_ending,
        **dataset,
    }
    return ModelFolder(Path(folder), plans, configuration, description, LabelManager.from_dataset_json(description), ())


def label_map(shape=(10, 24, 20), seed=0) -> np.ndarray:
    """Two boxes at random places, away from the border (z, y, x), uint8."""
    random = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    for label in (1, 2):
        corner = [int(random.integers(1, edge // 2 - 2)) if edge > 6 else 0 for edge in shape]
        size = [max(1, edge // 3) for edge in shape]
        corner = [c + (label - 1) * (s // 2) for c, s in zip(corner, size, strict=True)]
        labels[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = label
    return labels


def intensities(labels: np.ndarray, margin: int = 0) -> np.ndarray:
    """Image of a label map, with a margin of air (exactly 0) that preparation crops away."""
    image = np.where(labels == 0, 0.5, labels) * STEP
    if margin:
        body = np.zeros(labels.shape, bool)
        body[(slice(None), *[slice(margin, -margin)] * 2)] = True
        image[~body & (labels == 0)] = 0
    return image.astype(np.float32)


def write_case(folder: Path, case: str, labels: np.ndarray, spacing_mm=(2.0, 1.0, 1.0), margin: int = 2) -> Path:
    """Writes image and label map as NIfTI with an unusual geometry, in nnU-Net's naming; gives the image's path."""
    for sub, name, array in (
        ("imagesTs", f"{case}_0000", intensities(labels, margin)),
        ("labelsTs", case, labels.astype(np.uint8)),
    ):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing([float(value) for value in spacing_mm[::-1]])
        image.SetOrigin((11.5, -20.25, 7.0))
        image.SetDirection((-1, 0, 0, 0, 0, 1, 0, 1, 0))
        (folder / sub).mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(folder / sub / f"{name}.nii.gz"))
    return folder / "imagesTs" / f"{case}_0000.nii.gz"
