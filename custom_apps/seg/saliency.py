"""Maps of what in an image a segmentation depends on, in the geometry of the image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.common.figures import figure
from custom_apps.common.saliency_files import SaveSaliency, over_gray
from custom_apps.common.volume_file import write_nifti
from custom_apps.seg.affine import affine_of
from custom_apps.seg.case_loading import IMAGE_PATH, PROPERTIES
from custom_apps.seg.export import restore_map
from custom_apps.seg.model_folder import ModelFolder
from custom_apps.seg.volume_io import read_images

PLANES = ("first axis", "second axis", "third axis")
NEIGHBORHOOD = 7
"""Voxels along each axis."""


class SaveVolumeSaliency(SaveSaliency):
    """Writes maps of prepared images: ``{case}_saliency.nii.gz`` on the image's own grid, and ``{case}_saliency.png``.

    The picture has the slices through the map's largest neighborhood along each axis (a 2-D image: the image).

    Args:
        output_dir, overwrite: see the base class.
        model: the model's plan.
    """

    ENDINGS = ("_saliency.nii.gz", "_saliency.png")

    def __init__(self, output_dir: str | Path, model: ModelFolder, overwrite: bool = False):
        super().__init__(output_dir, overwrite)
        self.model = model

    def write(self, item: Mapping[str, Any], values: np.ndarray, paths: Mapping[str, Path]) -> None:
        """Writes the two files of one image."""
        properties = json.loads(item[PROPERTIES])
        placed = restore_map(values, properties, self.model)
        # Arrays are (z, y, x), NIfTI files (x, y, z).
        affine = affine_of(properties)[:, [2, 1, 0, 3]]
        write_nifti(placed.transpose(), affine, paths["_saliency.nii.gz"], self.overwrite)
        image = read_images([item[IMAGE_PATH]], self.model.reader)[0][0]
        draw_slices(paths["_saliency.png"], image, placed, str(item["case"]))


def draw_slices(path: str | Path, image: np.ndarray, values: np.ndarray, title: str = "") -> None:
    """Draws the slices through the largest neighborhood of a map, without the map above and with it below.

    Args:
        path: the figure, replaced when it exists.
        image: (z, y, x).
        values: the map on the same grid.
        title: above it.
    """
    from scipy.ndimage import uniform_filter

    low, high = np.percentile(image, (1, 99))
    gray = (255 * ((image - low) / max(high - low, 1e-12)).clip(0, 1)).astype(np.uint8)
    colored, axes_shown = over_gray(gray, values), [axis for axis in range(3) if min(np.delete(values.shape, axis)) > 1]
    # Single voxels of strided convolutions may stick out, neighborhoods do not.
    peak = np.unravel_index(uniform_filter(values, NEIGHBORHOOD).argmax(), values.shape)
    with figure(path, 2, len(axes_shown), width=2.4, height=2.4) as (drawn, grid):
        drawn.suptitle(title, fontsize=9)
        for column, axis in enumerate(axes_shown):
            for row, volume in enumerate((gray, colored)):
                grid[row, column].imshow(np.take(volume, peak[axis], axis), cmap="gray", vmin=0, vmax=255)
                grid[row, column].set_axis_off()
            grid[0, column].set_title(f"{PLANES[axis]}, slice {peak[axis]}", fontsize=8, fontweight="normal")
