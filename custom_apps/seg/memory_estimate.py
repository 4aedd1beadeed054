"""How large a network's feature maps are, the planner's measure of GPU memory."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod


def count_feature_map_elements(
    patch_size: Sequence[int],
    strides: Sequence[Sequence[int]],
    features: Sequence[int],
    convs_encoder: Sequence[int],
    convs_decoder: int,
    num_labels: int,
    residual: bool,
) -> int:
    """Elements of every feature map of a U-Net for one patch, as nnU-Net's planners count them.

    Args:
        patch_size: in voxels.
        strides: of each stage.
        features: channels of each stage.
        convs_encoder: convolutions, or residual blocks, of each encoder stage.
        convs_decoder: convolutions of each decoder stage.
        num_labels: labels with background.
        residual: residual encoder: two maps a block, one for the stem, one for each shortcut that changes size or
            width.

    Returns:
        The number of elements, gradients and optimizer not counted.
    """
    voxels, size = [], list(patch_size)
    for stride in strides:
        size = [n // s for n, s in zip(size, stride, strict=True)]
        voxels.append(prod(size))
    maps = [f * v for f, v in zip(features, voxels, strict=True)]
    per_block = 2 if residual else 1
    encoder = sum(per_block * count * elements for count, elements in zip(convs_encoder, maps, strict=True))
    decoder = sum((1 + convs_decoder) * elements for elements in maps[:-1])
    shortcuts = 0
    if residual:
        shortcuts = maps[0]
        for stage, elements in enumerate(maps):
            changes = stage > 0 and (features[stage] != features[stage - 1] or prod(strides[stage]) > 1)
            shortcuts += elements * changes
    return encoder + decoder + shortcuts + num_labels * voxels[0]
