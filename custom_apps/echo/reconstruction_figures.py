"""Pictures of what a masked autoencoder of videos sees and predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from custom_apps.common.distributed import without_ddp
from custom_apps.common.example_figures import ExampleFigures
from custom_apps.common.figures import figure
from custom_apps.common.seeding import derived_seed, seeded
from custom_apps.echo.lv_video import to_gray_levels
from custom_apps.echo.video_writing import write_video
from custom_networks.layers.masked_prediction import masked_patch_loss

if TYPE_CHECKING:
    from torch import nn

HIDDEN_RGB = (80, 80, 40)
ROWS = ("original", "masked", "reconstructed")
EXPORT_FPS = 10.0


@dataclass(frozen=True)
class Reconstruction:
    """One clip, each as uint8 (frames, H, W, 3).

    Attributes:
        case: name of the video.
        original: the clip.
        masked: what the network sees; hidden patches in one dark color.
        reconstructed: visible patches as they are, hidden ones as predicted.
        loss: mean squared error over hidden patches, of normalized gray values.
        hidden: share of patches hidden.
    """

    case: str
    original: np.ndarray
    masked: np.ndarray
    reconstructed: np.ndarray
    loss: float
    hidden: float


@torch.no_grad()
def reconstruct(
    network: nn.Module, clip: torch.Tensor, case: str, mean: float, std: float, seed: int = 0
) -> Reconstruction:
    """Hides patches of a clip and predicts them.

    Args:
        network: a `custom_networks.nets.mamba3d_mae.Mamba3DMAE` in evaluation mode.
        clip: (1, frames, H, W), normalized, on the network's device.
        case: name of the video.
        mean: of the gray values from 0 to 1, that the normalization subtracted; the data set's own.
        std: that it divided by.
        seed: of the mask.
    """
    with seeded(seed, clip.device):
        output = network(clip[None])
    predicted = network.reconstruct(output)[0]
    hidden = network.to_image(output.mask[..., None].expand_as(output.target).to(output.target.dtype))[0, 0] > 0.5
    # Frames and pixels behind the last whole patch are left out of the picture.
    frames, height, width = hidden.shape
    original = _colour(to_gray_levels(clip[:, :frames, :height, :width], mean, std))
    masked = original.copy()
    masked[hidden.cpu().numpy()] = HIDDEN_RGB
    loss, share = float(masked_patch_loss(output)), float(output.mask.float().mean())
    return Reconstruction(case, original, masked, _colour(to_gray_levels(predicted, mean, std)), loss, share)


def draw_reconstructions(clips: Sequence[Reconstruction], path: str | Path, frames: int = 6) -> None:
    """Draws each clip as three rows of frames: original, masked, reconstructed.

    Args:
        clips: at least one.
        path: the figure.
        frames: number of frames, spread evenly over the clip.
    """
    shown = np.linspace(0, len(clips[0].original) - 1, min(frames, len(clips[0].original))).round().astype(int)
    with figure(path, len(ROWS) * len(clips), len(shown), width=1.35, height=1.4) as (_, grid):
        for number, clip in enumerate(clips):
            rows = grid[len(ROWS) * number : len(ROWS) * (number + 1)]
            for axes_row, name in zip(rows, ROWS, strict=True):
                for axes, frame in zip(axes_row, shown, strict=True):
                    axes.imshow(getattr(clip, name)[frame])
                    axes.grid(False)
                    axes.set(xticks=[], yticks=[])
                    axes.spines[:].set_visible(False)
                axes_row[0].set_ylabel(name, fontsize=8)
            for axes, frame in zip(rows[0], shown, strict=True):
                # The empty line above is the room for the clip's own title, which is wider than its axes.
                axes.set_title(f" \nframe {frame}", fontsize=7.5, fontweight="normal", loc="center")
            title = f"{clip.case}: {100 * clip.hidden:.0f} % hidden, error {clip.loss:.3f}"
            text = rows[0][0].text(0, 1.19, title, transform=rows[0][0].transAxes, fontsize=8.5, fontweight="bold")
            text.set_in_layout(False)


def write_reconstruction_video(path: str | Path, clip: Reconstruction, fps: float = EXPORT_FPS) -> None:
    """Writes original, masked and reconstructed side by side as Motion JPEG (``.avi``) or MPEG-4 (``.mp4``)."""
    pictures = np.concatenate([getattr(clip, name) for name in ROWS], 2)
    height, width = pictures.shape[1:3]
    write_video(pictures[:, : height // 2 * 2, : width // 2 * 2], path, fps)


class ReconstructionFigures(ExampleFigures):
    """Handler that draws reconstructions of a few clips of a data set, on rank 0.

    Masks are those that the evaluator draws with ``seed_key: index``. The data set's items have ``image``
    (1, frames, H, W), ``case`` and ``index``.

    Args:
        path, network, dataset, examples, every: see the base class.
        mean: of the gray values from 0 to 1, that the normalization subtracted.
        std: that it divided by.
        frames: number of frames of each clip.
    """

    def __init__(
        self,
        path: str | Path,
        network: nn.Module,
        dataset: Any,
        mean: float,
        std: float,
        examples: int = 3,
        frames: int = 6,
        every: int = 1,
    ):
        super().__init__(path, network, dataset, examples, every)
        self.mean, self.std, self.frames = mean, std, frames

    def example(self, network: nn.Module, item: Mapping[str, Any], device: torch.device) -> Reconstruction:
        """A clip, hidden in part and predicted."""
        seed = derived_seed(int(item["index"]))
        return reconstruct(network, item["image"].to(device), item["case"], self.mean, self.std, seed)

    def draw(self, examples: Sequence[Reconstruction]) -> None:
        """Draws all clips."""
        draw_reconstructions(examples, self.path, self.frames)


class SaveReconstructions:
    """Handler of an evaluator that writes picture and video of every clip: ``{case}_reconstruction.png`` and ``.avi``.

    Takes ``image`` (1, frames, H, W) and ``case`` from the batch and runs the network itself. Files are replaced.

    Args:
        output_dir: made when missing.
        network: the autoencoder.
        mean: of the gray values from 0 to 1, that the normalization subtracted.
        std: that it divided by.
        seed: of the masks.
        frames: of the picture.
        videos: whether to write videos.
    """

    ENDINGS = ("_reconstruction.png", "_reconstruction.avi")

    def __init__(
        self,
        output_dir: str | Path,
        network: nn.Module,
        mean: float,
        std: float,
        seed: int = 0,
        frames: int = 6,
        videos: bool = True,
    ):
        self.output_dir, self.network, self.mean, self.std = Path(output_dir), network, mean, std
        self.seed, self.frames, self.videos = seed, frames, videos

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Writes the files of an iteration's clips."""
        network = without_ddp(self.network)
        device = next(network.parameters()).device
        for item in engine.state.batch:
            case = str(item["case"])
            clip = reconstruct(network, item["image"].to(device), case, self.mean, self.std, self.seed)
            draw_reconstructions([clip], self.output_dir / f"{case}{self.ENDINGS[0]}", self.frames)
            if self.videos:
                write_reconstruction_video(self.output_dir / f"{case}{self.ENDINGS[1]}", clip)


def _colour(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[..., None], 3, -1)
