"""Linear resampling with PyTorch, the rule of nnU-Net's ``torchres`` plans, which U-Mamba2 uses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import interpolate

from custom_apps.seg.resampling import ANISOTROPY_THRESHOLD, separate_axis

# Shares of labels are compared in half precision after scaling by this, as the published rule does.
SHARE_SCALE = 1000


def resample_linearly(
    array: np.ndarray,
    new_shape: Sequence[int],
    spacing: Sequence[float],
    new_spacing: Sequence[float],
    is_seg: bool = False,
    force_separate_z: bool | None = None,
    memefficient_seg_resampling: bool = False,
    separate_z_anisotropy_threshold: float = ANISOTROPY_THRESHOLD,
) -> np.ndarray:
    """Tri- or bilinear resampling without anti-aliasing (nnU-Net v2, ``resample_torch_fornnunet``).

    Args:
        array: (C, z, y, x); for label maps integer, -1 counting as a label.
        new_shape: (z, y, x).
        spacing: of ``array`` in mm, same axes.
        new_spacing: of the result.
        is_seg: interpolate each label's mask and give a voxel the label with the largest share, the smallest in a tie.
        force_separate_z: see ``resampling.separate_axis``; an axis that is apart is resampled by nearest neighbour.
        memefficient_seg_resampling: for label maps instead the last label with a share above one half, else 0.
        separate_z_anisotropy_threshold: ratio of spacings above which an axis is apart.

    Returns:
        (C, *new_shape): float32, or the type of the label map.
    """
    new_shape = tuple(int(n) for n in new_shape)
    if array.shape[1:] == new_shape:
        return array if is_seg else array.astype(np.float32, copy=False)
    resize = _resize
    if is_seg:
        resize = _resize_labels_above_half if memefficient_seg_resampling else _resize_labels
    values = torch.from_numpy(np.ascontiguousarray(array))
    axis = separate_axis(spacing, new_spacing, force_separate_z, separate_z_anisotropy_threshold)
    if axis is None:
        result = resize(values, new_shape)
    else:
        in_plane = tuple(n for other, n in enumerate(new_shape) if other != axis)
        # Slices are batched along the coarse axis, (n, C, …), which leaves two spatial axes.
        slices = torch.stack([resize(part, in_plane) for part in values.movedim(axis + 1, 0)])
        flat = slices.flatten(1).T[None].double()
        nearest = interpolate(flat, new_shape[axis], mode="nearest-exact")[0].T
        result = nearest.to(slices.dtype).reshape(new_shape[axis], len(array), *in_plane).movedim(0, axis + 1)
    return result.numpy().astype(array.dtype if is_seg else np.float32, copy=False)


def _resize(values: torch.Tensor, new_shape: tuple[int, ...]) -> torch.Tensor:
    mode = "bilinear" if len(new_shape) == 2 else "trilinear"
    return interpolate(values[None].float(), new_shape, mode=mode, align_corners=False)[0]


def _resize_labels(values: torch.Tensor, new_shape: tuple[int, ...]) -> torch.Tensor:
    result = torch.zeros((len(values), *new_shape), dtype=values.dtype)
    best = torch.full(result.shape, -1, dtype=torch.float16)
    for label in values.unique():
        share = (_resize(values == label, new_shape) * SHARE_SCALE).half()
        result[share > best] = label
        best = torch.maximum(best, share)
    return result


def _resize_labels_above_half(values: torch.Tensor, new_shape: tuple[int, ...]) -> torch.Tensor:
    result = torch.zeros((len(values), *new_shape), dtype=values.dtype)
    for label in values.unique():
        result[_resize(values == label, new_shape) > 0.5] = label
    return result
