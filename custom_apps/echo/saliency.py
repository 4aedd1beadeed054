"""Maps of what in a clip a network's answer depends on: NIfTI, video, strip of frames."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import Compose

from custom_apps.common.figures import figure
from custom_apps.common.partial_file import partial_file
from custom_apps.common.saliency_files import SaveSaliency, over_gray
from custom_apps.echo.lv_video import USUAL_FPS, to_gray_levels
from custom_apps.echo.video_writing import write_video
from custom_apps.echo.whole_video import FrameSized

SHOWN_FRAMES, SHOWN_EDGE = 6, 224


def with_frame_size(chain: Compose) -> Compose:
    """The chain, whose items also have ``frame_size``, int64 (height, width) of the file."""
    load, *steps = chain.transforms
    return Compose([load, FrameSized(load.keys), *steps])


class SaveClipSaliency(SaveSaliency):
    """Writes maps (frames, H, W) of clips.

    ``{case}_saliency.nii.gz``, float32, axes column, row, frame of the clip, in the size of the file's frames;
    ``{case}_saliency.avi``, the clip and the map over it; ``{case}_saliency.png``, six of its frames.

    Args:
        mean: of the gray values from 0 to 1, that the normalization subtracted.
        std: that it divided by.
        period: distance in the file of the clip's frames.
        output_dir, overwrite: see the base class.
    """

    ENDINGS = ("_saliency.nii.gz", "_saliency.avi", "_saliency.png")

    def __init__(self, output_dir: str | Path, mean: float, std: float, period: int = 1, overwrite: bool = False):
        super().__init__(output_dir, overwrite)
        self.mean, self.std, self.period = mean, std, period

    def write(self, item: Mapping[str, Any], values: np.ndarray, paths: Mapping[str, Path]) -> None:
        """Writes the three files of one clip."""
        nifti, video, strip = (paths[ending] for ending in self.ENDINGS)
        fps = float(item.get("fps", math.nan)) / self.period
        size = [int(side) for side in item["frame_size"]] if "frame_size" in item else values.shape[1:]
        write_clip_map(nifti, _resized(values, size), fps)
        gray = to_gray_levels(item["image"], self.mean, self.std)[: len(values)]
        factor = max(1, round(SHOWN_EDGE / min(gray.shape[1:])))
        # Even edges, which the video needs.
        shown = [2 * (side * factor // 2) for side in gray.shape[1:]]
        gray = np.rint(_resized(gray.astype(np.float32), shown)).clip(0, 255).astype(np.uint8)
        colored = over_gray(gray, _resized(values, shown))
        plain = np.repeat(gray[..., None], 3, axis=-1)
        write_video(np.concatenate([plain, colored], axis=2), video, fps if fps > 0 else USUAL_FPS)
        draw_strip(strip, plain, colored, str(item["case"]))


def write_clip_map(path: str | Path, values: np.ndarray, fps: float = math.nan) -> None:
    """Writes a map (frames, H, W) as NIfTI with axes column, row, frame.

    Args:
        path: the file, replaced when it exists.
        values: float32.
        fps: of the clip, for the third voxel size (seconds); 1 where unknown. A pixel's size is not known, so the first
            two are 1.
    """
    import nibabel

    affine = np.diag([1.0, 1.0, 1 / fps if fps > 0 else 1.0, 1.0])
    image = nibabel.Nifti1Image(np.ascontiguousarray(values.transpose(2, 1, 0), np.float32), affine)
    with partial_file(path, ".nii.gz") as temporary:
        nibabel.save(image, temporary)


def draw_strip(path: str | Path, plain: np.ndarray, colored: np.ndarray, title: str = "") -> None:
    """Draws evenly spread frames, those of the clip above, those with the map below.

    Args:
        path: the figure, replaced when it exists.
        plain: uint8 (frames, H, W, 3).
        colored: the same with the map.
        title: above it.
    """
    shown = np.linspace(0, len(plain) - 1, min(SHOWN_FRAMES, len(plain))).round().astype(int)
    with figure(path, 2, len(shown), width=1.5, height=1.6) as (drawn, grid):
        drawn.suptitle(title, fontsize=9)
        for row, frames in zip(grid, (plain, colored), strict=True):
            for axes, number in zip(row, shown, strict=True):
                axes.imshow(frames[number])
                axes.set_axis_off()
        for axes, number in zip(grid[0], shown, strict=True):
            axes.set_title(f"frame {number}", fontsize=8, fontweight="normal", loc="center")


def _resized(frames: np.ndarray, size: Any) -> np.ndarray:
    """Frames (F, H, W) of another height and width, bilinear."""
    if tuple(frames.shape[1:]) == tuple(size):
        return frames
    flat = torch.from_numpy(np.ascontiguousarray(frames)).float()[:, None]
    return F.interpolate(flat, tuple(size), mode="bilinear", align_corners=False)[:, 0].numpy()
