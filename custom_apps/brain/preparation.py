"""From raw contrasts to volumes for the networks: one orientation, one size, 8 bits. This step was never published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import GaussianSmooth, Orientation, SpatialResample

from custom_apps.brain.contrasts import CONTRASTS, MASK
from custom_apps.brain.loading import read_contrast
from custom_apps.common.errors import DataError
from custom_apps.common.volume_file import Volume, grid_problem

AXES = "RAS"
SAME_SPACING = 1e-3
"""Relative difference of voxel edges below which nothing is resampled."""


@dataclass(frozen=True)
class Preparation:
    """How volumes are prepared.

    Attributes:
        size: voxels along every axis of the result.
        spacing_mm: edge of a voxel of the result.
        fit: ``crop``: cut or pad the foreground about its middle; ``resize``: choose the voxels' edge, the same along
            all axes, so that the foreground just fits (``spacing_mm`` then means nothing).
        percentiles: of the non-zero voxels of each contrast that become 0 and 255.
        resample: accept contrasts on different grids; they are interpolated to the finest one, which does not align
            patients who moved.
    """

    size: tuple[int, int, int] = (160, 160, 160)
    spacing_mm: float = 1.0
    fit: str = "crop"
    percentiles: tuple[float, float] = (0.1, 99.9)
    resample: bool = False

    def __post_init__(self):
        size = (self.size,) * 3 if isinstance(self.size, int) else tuple(int(n) for n in self.size)
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "percentiles", tuple(float(p) for p in self.percentiles))
        if len(size) != 3 or min(size) < 1:
            raise ValueError(f"size must be one or three positive numbers, got {self.size}")
        if self.fit not in ("crop", "resize"):
            raise ValueError(f"fit must be crop or resize, got {self.fit!r}")
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100 or self.spacing_mm <= 0:
            raise ValueError(f"percentiles {self.percentiles} or spacing {self.spacing_mm} mm make no sense")


@dataclass(frozen=True)
class Prepared:
    """A prepared examination.

    Attributes:
        image: uint8 (4, x, y, z), channels in the order of ``CONTRASTS``.
        mask: tumor mask on the same grid, uint8, or None.
        affine: from index to position in mm (right, anterior, superior).
        record: what was done, as JSON values: among others ``cut_mm``, what of the foreground did not fit along every
            axis, and ``foreground_share``, the part of the original voxels that are not zero.
    """

    image: np.ndarray
    mask: np.ndarray | None
    affine: np.ndarray
    record: dict[str, Any]


def prepare_images(
    images: Sequence[str | Path], mask: str | Path | None = None, preparation: Preparation | None = None
) -> Prepared:
    """Prepares the contrasts of one examination in memory.

    Orientation to right, anterior, superior; resampling to voxels of 1 mm where they are others (linear, after a
    Gaussian filter where they become larger); the box about all voxels that are not zero in any contrast; cut or padded
    with zeros to the size, about the middle of that box; each contrast clipped to percentiles of its non-zero voxels
    and scaled to 0 to 255. Voxels outside the foreground are exactly 0.

    Args:
        images: NIfTI files or folders of DICOM slices, in the order T1, T2, T1ce, FLAIR.
        mask: tumor mask, taken along by nearest neighbor.
        preparation: the settings.

    Raises:
        DataError: see :func:`custom_apps.common.volume_file.read_volume`; contrasts on different grids unless these may
            be resampled; a contrast that is zero or constant.

    Source: the result is what the code of 3D Mamba MAE (Hu et al. 2024) reads; crop and percentiles are this project's.
    """
    preparation = preparation or Preparation()
    if len(images) != len(CONTRASTS):
        raise ValueError(f"{len(images)} images, expected T1, T2, T1ce and FLAIR")
    volumes = [read_contrast(path) for path in images]
    masks = [read_contrast(mask)] if mask else []
    tensors, resampled = _on_one_grid(volumes + masks, preparation.resample)
    foreground = _foreground(tensors[: len(CONTRASTS)], volumes)
    low, high = _box(foreground)
    affine, spacing_mm = _target(foreground, low, high, preparation)
    placed = [_placed(tensor, affine, spacing_mm, preparation.size, "bilinear") for tensor in tensors[: len(volumes)]]
    inside = _placed(foreground, affine, spacing_mm, preparation.size, "bilinear")[0].numpy() > 0.5
    channels, limits = [], {}
    for name, volume, channel in zip(CONTRASTS, volumes, placed, strict=True):
        scaled, limits[name] = _eight_bits(channel[0].numpy(), inside, preparation.percentiles, volume.path)
        channels.append(scaled)
    placed_mask = None
    if masks:
        placed_mask = _placed(tensors[-1], affine, spacing_mm, preparation.size, "nearest")[0].numpy()
        placed_mask = np.rint(placed_mask).astype(np.uint8)
    record = {
        "sources": {name: str(volume.path) for name, volume in zip(CONTRASTS, volumes, strict=True)}
        | ({MASK: str(mask)} if mask else {}),
        "original_shape": list(volumes[0].array.shape),
        "original_affine": volumes[0].affine.tolist(),
        "settings": asdict(preparation),
        "orientation": AXES,
        "affine": affine.tolist(),
        "spacing_mm": spacing_mm,
        "foreground_mm": ((high - low) * _edges_mm(foreground)).tolist(),
        "cut_mm": _cut_mm(foreground, low, high, spacing_mm, preparation.size),
        "foreground_share": float(foreground.as_tensor().mean()),
        "resampled_to_one_grid": resampled,
        "limits": limits,
    }
    return Prepared(np.stack(channels), placed_mask, affine, record)


def _on_one_grid(volumes: Sequence[Volume], resample: bool) -> tuple[list[MetaTensor], bool]:
    """Volumes (1, x, y, z) in standard orientation, on the grid of the first or, where they differ, of the finest."""
    tensors = [
        Orientation(axcodes=AXES, labels=(("L", "R"), ("P", "A"), ("I", "S")))(
            MetaTensor(torch.from_numpy(volume.array)[None].float(), affine=torch.from_numpy(volume.affine))
        )
        for volume in volumes
    ]
    first = tensors[0]
    problems = {}
    for number, tensor in enumerate(tensors):
        problem = grid_problem(tensor.shape[1:], tensor.affine.numpy(), first.shape[1:], first.affine.numpy())
        if problem:
            problems[number] = problem
    if not problems:
        return tensors, False
    if not resample:
        number, problem = next(iter(problems.items()))
        expected = f"{problem[1]} as in {volumes[0].path.name}, or --resample for images that are aligned"
        raise DataError(volumes[number].path, problem[0], expected)
    finest = min(tensors[: len(CONTRASTS)], key=lambda tensor: float(_edges_mm(tensor).prod()))
    return [
        _resampled(
            tensor, finest.affine.numpy(), finest.shape[1:], "bilinear" if number < len(CONTRASTS) else "nearest"
        )
        for number, tensor in enumerate(tensors)
    ], True


def _foreground(tensors: Sequence[MetaTensor], volumes: Sequence[Volume]) -> MetaTensor:
    """1 where any contrast is not zero, as float."""
    for tensor, volume in zip(tensors, volumes, strict=True):
        if tensor.min() == tensor.max():
            raise DataError(volume.path, f"every voxel is {float(tensor.min()):g}", "an image")
    inside = torch.stack([tensor.as_tensor()[0] != 0 for tensor in tensors]).any(dim=0)
    return MetaTensor(inside[None].float(), affine=tensors[0].affine)


def _box(foreground: MetaTensor) -> tuple[np.ndarray, np.ndarray]:
    """First index and index after the last, along every axis."""
    inside = foreground[0].numpy() > 0
    low, high = [], []
    for axis in range(3):
        found = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        low.append(found[0])
        high.append(found[-1] + 1)
    return np.array(low), np.array(high)


def _edges_mm(tensor: MetaTensor) -> np.ndarray:
    return np.linalg.norm(tensor.affine.double().numpy()[:3, :3], axis=0)


def _target(
    foreground: MetaTensor, low: np.ndarray, high: np.ndarray, preparation: Preparation
) -> tuple[np.ndarray, float]:
    """Matrix of the result, and the edge of its voxels."""
    affine, edges = foreground.affine.double().numpy(), _edges_mm(foreground)
    spacing_mm, size = preparation.spacing_mm, np.array(preparation.size)
    if preparation.fit == "resize":
        spacing_mm = float(((high - low) * edges / size).max())
    target = affine.copy()
    if np.abs(edges / spacing_mm - 1).max() < SAME_SPACING:
        # Whole voxels: nothing is interpolated.
        start = low + (high - low) // 2 - size // 2
    else:
        target[:3, :3] = affine[:3, :3] / edges * spacing_mm
        start = (low + high - 1) / 2 - (size - 1) / 2 * spacing_mm / edges
    target[:3, 3] = (affine @ np.append(start, 1.0))[:3]
    return target, spacing_mm


def _placed(tensor: MetaTensor, affine: np.ndarray, spacing_mm: float, size: Sequence[int], mode: str) -> torch.Tensor:
    """A volume on the grid of the result, zeros outside."""
    edges = _edges_mm(tensor)
    if np.abs(edges / spacing_mm - 1).max() >= SAME_SPACING:
        return _resampled(tensor, affine, size, mode).as_tensor()
    start = np.rint(np.linalg.inv(tensor.affine.numpy()) @ affine[:, 3])[:3].astype(int)
    result = torch.zeros(len(tensor), *size)
    taken = [
        slice(max(first, 0), max(min(first + n, whole), 0))
        for first, n, whole in zip(start, size, tensor.shape[1:], strict=True)
    ]
    put = [slice(part.start - first, part.stop - first) for part, first in zip(taken, start, strict=True)]
    result[(slice(None), *put)] = tensor.as_tensor()[(slice(None), *taken)]
    return result


def _resampled(tensor: MetaTensor, affine: np.ndarray, size: Sequence[int], mode: str) -> MetaTensor:
    coarser = np.linalg.norm(affine[:3, :3], axis=0) / _edges_mm(tensor)
    if mode == "bilinear" and coarser.max() > 1 + SAME_SPACING:
        # As wide as scikit-image filters before it makes an image smaller.
        tensor = GaussianSmooth(sigma=tuple(float(max(f - 1, 0) / 2 + 1e-6) for f in coarser))(tensor)
    resample = SpatialResample(mode=mode, padding_mode="zeros", align_corners=False, dtype=torch.float32)
    return resample(tensor, torch.from_numpy(affine), tuple(size))


def _eight_bits(
    channel: np.ndarray, inside: np.ndarray, percentiles: tuple[float, float], path: Path
) -> tuple[np.ndarray, list[float]]:
    values = channel[inside & (channel != 0)]
    if not values.size:
        raise DataError(path, "no voxel that is not zero in the part that is kept", "an image of a brain")
    low, high = (float(value) for value in np.percentile(values, percentiles))
    if not high > low:
        raise DataError(path, f"nearly every voxel is {low:g}", "an image of a brain")
    scaled = np.clip((channel - low) / (high - low), 0, 1) * 255
    return np.where(inside & (channel != 0), np.rint(scaled), 0).astype(np.uint8), [low, high]


def _cut_mm(foreground: MetaTensor, low: np.ndarray, high: np.ndarray, spacing_mm: float, size: Sequence[int]) -> list:
    """How much of the foreground does not fit into the result, along every axis."""
    excess = (high - low) * _edges_mm(foreground) - np.array(size) * spacing_mm
    return np.where(excess > spacing_mm / 2, np.round(excess, 1), 0.0).tolist()
