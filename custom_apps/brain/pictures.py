"""Slices of volumes as a radiologist looks at them, and the picture of a prepared examination."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from custom_apps.brain.contrasts import CONTRASTS, TITLES
from custom_apps.common.figures import figure

PLANES = ("axial", "coronal", "sagittal")


def plane(volume: np.ndarray, index: Sequence[int], name: str) -> np.ndarray:
    """A slice (rows, columns) of a volume (x, y, z) that runs to right, anterior, superior, ready to be shown.

    Axial and coronal slices have the patient's right side on the left; sagittal ones the front on the left.

    Args:
        volume: values.
        index: voxel that the slice goes through.
        name: ``axial``, ``coronal`` or ``sagittal``.
    """
    x, y, z = index
    match name:
        case "axial":
            return volume[::-1, ::-1, z].T
        case "coronal":
            return volume[::-1, y, ::-1].T
        case "sagittal":
            return volume[x, ::-1, ::-1].T
    raise ValueError(f"plane must be one of {', '.join(PLANES)}, got {name!r}")


def middle_of(mask: np.ndarray | None, image: np.ndarray) -> tuple[int, int, int]:
    """Voxel of a tumor mask next to its center, or without one the middle of the foreground of an image (x, y, z)."""
    inside = np.argwhere(mask > 0) if mask is not None and (mask > 0).any() else np.argwhere(image > 0)
    if not len(inside):
        return tuple(n // 2 for n in image.shape)
    center = inside.mean(axis=0)
    return tuple(int(value) for value in inside[np.linalg.norm(inside - center, axis=1).argmin()])


def draw_examination(image: np.ndarray, path: str | Path, title: str = "", mask: np.ndarray | None = None) -> None:
    """Three orthogonal slices of the four contrasts, with the outline of the tumor mask.

    Args:
        image: (4, x, y, z), axes to right, anterior, superior, gray values 0 to 255.
        path: the picture, replaced when it exists.
        title: name of the examination.
        mask: tumor, (x, y, z).
    """
    index = middle_of(mask, image[0])
    with figure(path, rows=3, columns=4, width=2.1, height=2.2) as (drawn, axes):
        drawn.suptitle(title, fontsize=9)
        for row, name in enumerate(PLANES):
            for column, contrast in enumerate(CONTRASTS):
                ax = axes[row, column]
                show(ax, plane(image[column], index, name), vmin=0, vmax=255)
                if mask is not None:
                    outline(ax, plane(mask, index, name))
                if row == 0:
                    ax.set_title(TITLES[contrast], fontsize=9)
                if column == 0:
                    ax.set_ylabel(name)
                    if name != "sagittal":
                        ax.text(0.02, 0.5, "R", color="white", transform=ax.transAxes, va="center", fontsize=8)


def show(ax, values: np.ndarray, **options):
    """Shows a slice without axes; options are those of Matplotlib's ``imshow``."""
    image = ax.imshow(values, **({"cmap": "gray"} | options))
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return image


def outline(ax, mask: np.ndarray, color: str = "#E69F00") -> None:
    """Draws the outline of a mask over a slice."""
    if (mask > 0).any():
        ax.contour(mask > 0, levels=[0.5], colors=[color], linewidths=0.8)
