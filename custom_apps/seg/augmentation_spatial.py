"""Rotation and scaling of a patch, resampled once and straight to its final size."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import MapTransform, RandomizableTransform
from monai.transforms.utils import create_rotate

from custom_apps.seg.patch_geometry import initial_patch_size, spatial_range

OUTSIDE = -1
# Voxels of label masks that are interpolated together: 256 MiB in float32.
LARGEST_STACK = 1 << 26


class RandRotateScaleCropd(RandomizableTransform, MapTransform):
    """Rotates and scales image and label about the centre of a larger patch and returns the final patch.

    Rotation and scaling are drawn independently of each other; where neither is drawn the centre is cut out, without
    interpolation. Images are 0 and labels -1 where the result lies outside the larger patch. Labels are interpolated
    linearly, one at a time, and the one with most weight is taken. For thin patches the same 2D transform is applied
    to each slice along the first axis (dummy-2D).

    Args:
        keys: image and label.
        patch_size: final size in voxels, two or three axes.
        rotation_prob: probability of a rotation about every axis, angles uniform in the range of
            :func:`custom_apps.seg.patch_geometry.spatial_range`.
        scaling_prob: probability of scaling.
        scaling: range of the factor, the same for all axes; above 1 the patch sees more of the image.
        interpolation: ``linear`` or ``cubic`` for the image; cubic splines take several times as long.
        label_key: which of the keys is the label.

    Source: nnU-Net, Isensee et al. 2021: cubic in the generation of U-Mamba, linear in that of U-Mamba2. Deviation: a
    voxel in which no label has half of the weight takes the strongest label instead of background.
    MONAI's ``RandAffine`` draws all parts with one probability and interpolates label values as numbers.
    """

    def __init__(
        self,
        keys: Sequence[str],
        patch_size: Sequence[int],
        rotation_prob: float = 0.2,
        scaling_prob: float = 0.2,
        scaling: Sequence[float] = (0.7, 1.4),
        interpolation: str = "linear",
        label_key: str = "label",
    ):
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob=1.0)
        if interpolation not in ("linear", "cubic"):
            raise ValueError(f"interpolation must be 'linear' or 'cubic', got {interpolation!r}")
        self.patch_size = tuple(int(edge) for edge in patch_size)
        self.range = spatial_range(self.patch_size)
        self.initial_patch_size = initial_patch_size(self.patch_size)
        self.rotation_prob, self.scaling_prob, self.scaling = rotation_prob, scaling_prob, tuple(scaling)
        self.interpolation, self.label_key = interpolation, label_key

    def randomize(self, data: Any = None) -> np.ndarray | None:
        """Draws the matrix from final to initial coordinates (about the centres), None for the identity."""
        axes = 2 if self.range.dummy_2d else len(self.patch_size)
        matrix = np.eye(axes)
        rotated, scaled = self.R.uniform(size=2) < (self.rotation_prob, self.scaling_prob)
        if rotated:
            angles = [self.R.uniform(-limit, limit) for limit in self.range.rotation]
            matrix = create_rotate(axes, angles if axes == 3 else angles[:1])[:axes, :axes]
        if scaled:
            matrix = matrix * self.R.uniform(*self.scaling)
        return matrix if rotated or scaled else None

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Transforms tensors (C, *initial_patch_size), or of any size, to (C, *patch_size)."""
        result = dict(data)
        matrix = self.randomize()
        for key in self.key_iterator(result):
            result[key] = self._centre(result[key]) if matrix is None else self._resample(result[key], matrix, key)
        return result

    def _centre(self, patch: torch.Tensor) -> torch.Tensor:
        starts = [(whole - part) // 2 for whole, part in zip(patch.shape[1:], self.patch_size, strict=True)]
        box = tuple(slice(start, start + part) for start, part in zip(starts, self.patch_size, strict=True))
        return patch[(slice(None), *box)].contiguous()

    def _resample(self, patch: torch.Tensor, matrix: np.ndarray, key: str) -> torch.Tensor:
        resample = self._labels if key == self.label_key else self._image
        if not self.range.dummy_2d:
            return resample(patch, matrix, self.patch_size)
        channels, depth = patch.shape[:2]
        slices = resample(patch.reshape(channels * depth, *patch.shape[2:]), matrix, self.patch_size[1:])
        return slices.reshape(channels, depth, *self.patch_size[1:])

    def _image(self, image: torch.Tensor, matrix: np.ndarray, size: tuple[int, ...]) -> torch.Tensor:
        if self.interpolation == "linear":
            return _sample_linear(image.float(), matrix, size)
        from scipy.ndimage import affine_transform

        offset = (np.array(image.shape[1:]) - 1) / 2 - matrix @ ((np.array(size) - 1) / 2)
        channels = [affine_transform(channel, matrix, offset, size, order=3) for channel in image.float().numpy()]
        return torch.from_numpy(np.stack(channels))

    def _labels(self, labels: torch.Tensor, matrix: np.ndarray, size: tuple[int, ...]) -> torch.Tensor:
        lowest = min(int(labels.min()), OUTSIDE)
        present = torch.bincount((labels - lowest).flatten()).nonzero().flatten() + lowest
        present = present[present != OUTSIDE].to(labels.dtype)
        total = best = torch.zeros(labels.shape[0], *size)
        result = torch.full((labels.shape[0], *size), OUTSIDE, dtype=labels.dtype)
        for some in present.split(max(1, LARGEST_STACK // labels.numel())):
            members = (labels[None] == some.view(-1, *(1,) * labels.ndim)).float()
            weights = _sample_linear(members.flatten(0, 1), matrix, size).unflatten(0, members.shape[:2])
            total = total + weights.sum(0)
            strongest, which = weights.max(0)
            result = torch.where(strongest > best, some[which], result)
            best = torch.maximum(strongest, best)
        # -1 and what lies outside have the weight that the labels leave.
        return torch.where(1 - total > best, OUTSIDE, result)


def _sample_linear(channels: torch.Tensor, matrix: np.ndarray, size: tuple[int, ...]) -> torch.Tensor:
    """Linear interpolation of (C, *S) at ``matrix @ output coordinate``, both about their centres; 0 outside."""
    axes = len(size)
    # grid_sample counts axes backwards and from -1 to 1 over each image.
    scaled = matrix * np.array(size)[None] / np.array(channels.shape[1:])[:, None]
    theta = torch.zeros(1, axes, axes + 1)
    theta[0, :, :axes] = torch.from_numpy(scaled[::-1, ::-1].copy())
    grid = F.affine_grid(theta, [1, 1, *size], align_corners=False)
    return F.grid_sample(channels[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
