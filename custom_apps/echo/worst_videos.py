"""Pictures of the videos that a network was furthest off with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from custom_apps.common.classification_evaluation import probability_of_class_1
from custom_apps.common.figures import PALETTE, figure
from custom_apps.common.worst_cases import WorstCases
from custom_apps.echo.clip_protocols import ClipProtocols
from custom_apps.echo.lesion_logits import video_logit
from custom_apps.echo.lv_dice import overlap_counts

FRAMES = 6
CAPTION = f"{FRAMES} frames, evenly spread over the video, as the network sees them."
PHASES = ("end-diastole", "end-systole")
TRACED, PREDICTED = PALETTE[2], PALETTE[4]


class WorstFractions(WorstCases):
    """The videos with the largest errors of ejection fraction, by the protocol with the most clips.

    Args:
        folder: see :class:`~custom_apps.common.worst_cases.WorstCases`.
        protocols: the inferer's.
        cases: how many.
    """

    def __init__(self, folder: str | Path, protocols: ClipProtocols, cases: int = 3):
        super().__init__(folder, cases)
        self.protocols = protocols

    def row(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Error and frames of a video."""
        averages = self.protocols.averages(item["pred"].flatten().tolist(), int(item["image"].shape[-3]))
        reported, predicted = float(item["ef_percent"]), averages[self.protocols.names[-1]]
        error = predicted - reported
        return {
            "case": str(item["case"]),
            "badness": abs(error),
            "note": f"reported {reported:.1f} %, predicted {predicted:.1f} %, error {error:+.1f} points",
            "caption": CAPTION,
            "frames": spread_frames(item["image"]),
        }

    def draw(self, row: Mapping[str, Any], path: Path) -> None:
        """Draws the frames side by side."""
        draw_strip(row["frames"], path)


class WorstLesions(WorstCases):
    """The videos whose class got the least probability.

    Args:
        folder: see :class:`~custom_apps.common.worst_cases.WorstCases`.
        class_names: of class 0 and 1.
        cases: how many.
    """

    def __init__(self, folder: str | Path, class_names: Sequence[str] = ("0", "1"), cases: int = 3):
        super().__init__(folder, cases)
        self.class_names = tuple(class_names)

    def row(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Probability of the right class, and frames of a video."""
        label = int(torch.as_tensor(item["label"]).reshape(()))
        probability = probability_of_class_1(video_logit(item["pred"]))
        right = probability if label else 1 - probability
        return {
            "case": str(item["case"]),
            "badness": -right,
            "note": f"{self.class_names[label]}, predicted with probability {right:.3f}",
            "caption": CAPTION,
            "frames": spread_frames(item["image"]),
        }

    def draw(self, row: Mapping[str, Any], path: Path) -> None:
        """Draws the frames side by side."""
        draw_strip(row["frames"], path)


class WorstVentricles(WorstCases):
    """The videos with the lowest Dice in the traced frames; without tracings there are none."""

    def row(self, item: Mapping[str, Any]) -> dict[str, Any] | None:
        """Dice, frames and masks of a video."""
        if item.get("label") is None or item.get("label_frame") is None:
            return None
        counts = np.sum(list(overlap_counts(item["pred"], item["label"], item["label_frame"]).values()), axis=0)
        places = [int(place) for place in item["label_frame"]]
        dice = 2 * counts[0] / max(1, 2 * counts[0] + counts[1] + counts[2])
        pred = torch.as_tensor(item["pred"])[:, places]
        masks = pred[0] > 0 if len(pred) == 1 else pred.argmax(0) > 0
        return {
            "case": str(item["case"]),
            "badness": -dice,
            "note": f"Dice {dice:.3f} over both traced frames",
            "caption": "The traced frames: tracing green, prediction orange.",
            "frames": to_gray(item["image"][:, places]),
            "traced": torch.as_tensor(item["label"]).cpu().numpy() > 0,
            "predicted": masks.cpu().numpy(),
            "places": places,
        }

    def draw(self, row: Mapping[str, Any], path: Path) -> None:
        """Draws both frames with both outlines."""
        with figure(path, 1, 2, 2.8, 3.0) as (_, grid):
            panels = zip(grid[0], PHASES, row["places"], row["frames"], row["traced"], row["predicted"], strict=True)
            for axes, phase, place, frame, traced, predicted in panels:
                _show(axes, frame)
                axes.set_title(f"{phase}, frame {place}", fontweight="normal")
                for mask, colour in ((traced, TRACED), (predicted, PREDICTED)):
                    if mask.any():
                        axes.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=1.4)


def spread_frames(video: torch.Tensor, count: int = FRAMES) -> np.ndarray:
    """Frames of a video (C, frames, H, W), evenly spread, as gray levels, uint8 (count, H, W)."""
    places = np.unique(np.linspace(0, video.shape[1] - 1, count).round().astype(int))
    return to_gray(video[:, places.tolist()])


def to_gray(frames: torch.Tensor) -> np.ndarray:
    """Normalized frames (C, frames, H, W) from their darkest to their brightest value, uint8 (frames, H, W)."""
    gray = torch.as_tensor(frames)[0].float()
    low, high = gray.min(), gray.max()
    return ((gray - low) / (high - low).clamp(min=1e-6) * 255).round().to(torch.uint8).cpu().numpy()


def draw_strip(frames: np.ndarray, path: str | Path) -> None:
    """Draws frames (frames, H, W) side by side."""
    with figure(path, 1, len(frames), 1.6, 1.6) as (_, grid):
        for axes, frame in zip(grid[0], frames, strict=True):
            _show(axes, frame)


def _show(axes: Any, frame: np.ndarray) -> None:
    axes.imshow(frame, cmap="gray", vmin=0, vmax=255)
    axes.axis("off")
