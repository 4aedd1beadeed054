"""Maps as files: NIfTI on the prepared grid and in the original space, pictures, numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from custom_apps.brain.contrasts import CONTRASTS, TITLES
from custom_apps.brain.map_numbers import map_numbers
from custom_apps.brain.pictures import PLANES, middle_of, outline, plane, show
from custom_apps.common.errors import DataError
from custom_apps.common.figures import figure
from custom_apps.common.partial_file import write_json
from custom_apps.common.volume_file import write_nifti

FLAIR = CONTRASTS.index("flair")


def write_map_files(
    values: np.ndarray | torch.Tensor,
    image: np.ndarray | torch.Tensor,
    affine: np.ndarray | torch.Tensor,
    output_dir: str | Path,
    case: str,
    mask: np.ndarray | torch.Tensor | None = None,
    record: Mapping[str, Any] | None = None,
    title: str = "",
) -> dict[str, Path]:
    """Writes a map: ``<case>_map.nii.gz``, ``<case>_map_original.nii.gz``, ``<case>_map.png``, ``<case>_map.json``.

    Args:
        values: map (x, y, z), NaN where there is no value.
        image: prepared volume (4, x, y, z), whose background is the smallest value of each channel.
        affine: of the prepared grid, which runs to right, anterior, superior.
        output_dir: made when missing.
        case: name of the examination.
        mask: tumor on the prepared grid; the JSON file with :func:`custom_apps.brain.map_numbers.map_numbers` is only
            written with one.
        record: what preparation recorded, with the original grid; without it no map in the original space is written.
        title: of the picture; by default the case.

    Returns:
        Kind (``prepared``, ``original``, ``picture``, ``numbers``) to file.

    Raises:
        DataError: if one of them is there already.
        ValueError: for arrays on different grids.
    """
    values, image, affine = (np.asarray(array) for array in (values, image, affine))
    mask = None if mask is None else np.asarray(mask)
    if image.shape[1:] != values.shape or (mask is not None and mask.shape != values.shape):
        raise ValueError(f"map {values.shape}, image {image.shape} and mask are not on one grid")
    output = Path(output_dir)
    endings = {"prepared": "_map.nii.gz", "original": "_map_original.nii.gz", "picture": "_map.png"}
    files = {kind: output / f"{case}{ending}" for kind, ending in endings.items()}
    files["numbers"] = output / f"{case}_map.json"
    if record is None:
        del files["original"]
    if mask is None:
        del files["numbers"]
    if there := [path for path in files.values() if path.exists()]:
        raise DataError(there[0], "already there and not overwritten", "another output folder")
    values = values.astype(np.float32)
    brain = brain_of(image)
    write_nifti(values, affine, files["prepared"])
    if record is not None:
        original_affine = np.array(record["original_affine"], np.float64)
        original = on_grid(values, affine, record["original_shape"], original_affine)
        write_nifti(original, original_affine, files["original"])
    if mask is not None:
        write_json({"case": case, "within": "brain", **map_numbers(values, mask, brain)}, files["numbers"])
    draw_map(values, image[FLAIR], files["picture"], brain, mask, title or case)
    return files


def brain_of(image: np.ndarray) -> np.ndarray:
    """Voxels of a prepared volume (C, x, y, z), normalized or not, where any channel is above its smallest value."""
    return (image > image.min(axis=(1, 2, 3), keepdims=True)).any(axis=0)


def on_grid(
    values: np.ndarray, affine: np.ndarray, shape: Sequence[int], grid_affine: np.ndarray, mode: str = "nearest"
) -> np.ndarray:
    """A volume (x, y, z) on another grid, NaN outside, float32.

    Args:
        values: the volume.
        affine: from its index to position in mm.
        shape: of the other grid.
        grid_affine: from the other grid's index to position in mm.
        mode: ``nearest``, which keeps the patches of a map as they are, or ``bilinear``.
    """
    from monai.data import MetaTensor
    from monai.transforms import SpatialResample

    resample = SpatialResample(mode=mode, padding_mode="zeros", align_corners=False, dtype=torch.float64)
    both = torch.from_numpy(np.stack([values, np.ones_like(values)]).astype(np.float64))
    placed = resample(
        MetaTensor(both, affine=torch.from_numpy(np.asarray(affine, np.float64))),
        torch.from_numpy(np.asarray(grid_affine, np.float64)),
        tuple(int(n) for n in shape),
    )
    moved, there = placed.numpy()
    return np.where(there > 0.5, moved, np.nan).astype(np.float32)


def draw_map(
    values: np.ndarray,
    background: np.ndarray,
    path: str | Path,
    brain: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    title: str = "",
) -> None:
    """Three orthogonal slices: an image above, with the map over it below.

    The slices go through the middle of the tumor or, without a mask, through the largest value of the map. Colors run
    from the 1st to the 99th percentile of the map in the brain, as the color bar tells.

    Args:
        values: map (x, y, z) on axes to right, anterior, superior; NaN is left out.
        background: FLAIR on the same grid.
        path: the picture, replaced when it exists.
        brain: voxels where the map is shown; None for all.
        mask: tumor, drawn as an outline.
        title: above the picture.
    """
    shown = np.where(brain, values, np.nan) if brain is not None else values
    if mask is not None and (mask > 0).any():
        index = middle_of(mask, background)
    elif np.isfinite(shown).any():
        index = np.unravel_index(np.nanargmax(shown), shown.shape)
    else:
        index = middle_of(None, background)
    low, high = np.nanpercentile(shown, (1, 99)) if np.isfinite(shown).any() else (0.0, 1.0)
    gray = dict(zip(("vmin", "vmax"), np.percentile(background, (0, 99.8)), strict=True))
    with figure(path, rows=2, columns=3, width=2.4, height=2.4) as (drawn, axes):
        drawn.suptitle(title, fontsize=9)
        for column, name in enumerate(PLANES):
            for row in range(2):
                show(axes[row, column], plane(background, index, name), **gray)
                if mask is not None:
                    outline(axes[row, column], plane(mask, index, name), color="white" if row else "#E69F00")
            colored = show(
                axes[1, column],
                np.ma.masked_invalid(plane(shown, index, name)),
                cmap="viridis",
                vmin=low,
                vmax=max(high, low + 1e-12),
                alpha=0.6,
            )
            axes[0, column].set_title(name)
            if name != "sagittal":
                axes[0, column].text(0.02, 0.5, "R", color="white", transform=axes[0, column].transAxes, va="center")
        axes[0, 0].set_ylabel(TITLES["flair"])
        axes[1, 0].set_ylabel("with the map")
        bar = drawn.colorbar(colored, ax=axes[1].tolist(), shrink=0.8, label="map")
        bar.solids.set_alpha(1)
