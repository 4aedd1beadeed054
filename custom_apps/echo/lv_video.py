"""Pictures of a segmented video: original and overlay side by side as AVI, and chosen frames as a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from custom_apps.common.figures import figure
from custom_apps.echo.video_writing import write_video

OVERLAY_RGB = (0.15, 0.45, 1.0)
OPACITY = 0.45
SHORTEST_SIDE, LONGEST_ENLARGED = 224, 1000
USUAL_FPS = 50.0
SHEET_COLUMNS = 8


def overlay_frames(gray: np.ndarray, masks: np.ndarray, scale: int = 1) -> np.ndarray:
    """Frames with the ventricle in blue and its border drawn.

    Args:
        gray: uint8 (frames, H, W).
        masks: (frames, H, W), non-zero inside of the ventricle.
        scale: enlargement, linear for the image and for the outline.

    Returns:
        uint8 (frames, H * scale, W * scale, 3).
    """
    image = _enlarged(torch.from_numpy(np.ascontiguousarray(gray)).float() / 255, scale)[..., None]
    inside = _enlarged(torch.from_numpy((masks > 0).astype(np.float32)), scale) > 0.5
    eroded = -F.max_pool2d(-inside.float()[:, None], 3, stride=1, padding=1)[:, 0] > 0.5
    colour = torch.tensor(OVERLAY_RGB)
    opacity = (OPACITY * inside + (1 - OPACITY) * (inside & ~eroded))[..., None]
    frames = image * (1 - opacity) + colour * opacity
    return (255 * frames).round().clamp(0, 255).to(torch.uint8).numpy()


def write_overlay_video(path: str | Path, gray: np.ndarray, masks: np.ndarray, fps: float | None = None) -> None:
    """Writes original and overlay side by side, with a bar below as long as the area of the ventricle.

    Args:
        path: ``.avi`` or ``.mp4``, replaced when it exists.
        gray: uint8 (frames, H, W).
        masks: (frames, H, W), non-zero inside of the ventricle.
        fps: frames per second; unknown (None, NaN or 0) means 50.

    Small videos are enlarged, unless they are very long.
    """
    scale = max(1, round(SHORTEST_SIDE / min(gray.shape[1:]))) if len(gray) <= LONGEST_ENLARGED else 1
    plain = overlay_frames(gray, np.zeros_like(masks), scale)
    pairs = np.concatenate([plain, overlay_frames(gray, masks, scale)], 2)
    area = (masks > 0).sum((1, 2))
    height, width = pairs.shape[1:3]
    top, left = height - max(2, height // 56), width // 2
    pairs[:, top:, left:] = 40
    for frame, share in zip(pairs, area / max(1, area.max()), strict=True):
        frame[top:, left : left + int(share * (width - left))] = [round(255 * part) for part in OVERLAY_RGB]
    # MPEG-4 needs even edges.
    write_video(pairs[:, : height // 2 * 2, : width // 2 * 2], path, fps if fps and np.isfinite(fps) else USUAL_FPS)


def draw_contact_sheet(
    path: str | Path,
    gray: np.ndarray,
    masks: np.ndarray,
    frames: Sequence[int] | None = None,
    titles: Sequence[str] | None = None,
    heading: str = "",
) -> None:
    """Draws frames with their masks in rows of eight.

    Args:
        path: the figure.
        gray: uint8 (frames, H, W).
        masks: (frames, H, W).
        frames: which to draw; by default sixteen evenly spread.
        titles: one for each; by default the frame's number.
        heading: above all.
    """
    if frames is None:
        frames = np.unique(np.linspace(0, len(gray) - 1, 2 * SHEET_COLUMNS).astype(int)).tolist()
    titles = [f"frame {frame}" for frame in frames] if titles is None else titles
    pictures = overlay_frames(gray[list(frames)], masks[list(frames)], max(1, round(224 / min(gray.shape[1:]))))
    columns = min(SHEET_COLUMNS, len(pictures))
    with figure(path, -(-len(pictures) // columns), columns, width=1.5, height=1.65) as (drawn, grid):
        for axes in grid.flat:
            axes.axis("off")
        for axes, picture, title in zip(grid.flat, pictures, titles, strict=False):
            axes.imshow(picture)
            axes.set_title(title, fontsize=7.5, fontweight="normal", loc="center")
        if heading:
            drawn.suptitle(heading, fontsize=10, fontweight="bold", x=0.01, ha="left")


def to_gray_levels(video: torch.Tensor, mean: float, std: float) -> np.ndarray:
    """A normalized video (1, frames, H, W) as gray levels, uint8 (frames, H, W).

    Args:
        video: what the network saw.
        mean: of the gray values from 0 to 1, that the normalization subtracted.
        std: that it divided by.
    """
    return (255 * (video[0].float() * std + mean)).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def _enlarged(frames: torch.Tensor, scale: int) -> torch.Tensor:
    if scale == 1:
        return frames
    return F.interpolate(frames[:, None], scale_factor=scale, mode="bilinear", align_corners=False)[:, 0]
