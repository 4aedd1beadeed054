"""Pictures of what a masked autoencoder of ultrasound images sees and restores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from custom_apps.common.distributed import without_ddp
from custom_apps.common.example_figures import ExampleFigures
from custom_apps.common.figures import figure
from custom_apps.common.seeding import derived_seed, seeded
from custom_apps.thyroid.chains import MEAN, STD
from custom_networks.layers.masked_prediction import destandardize_patches, masked_patch_loss
from custom_networks.layers.patch_tokens import patchify, unpatchify

if TYPE_CHECKING:
    from torch import nn

HIDDEN_GRAY = 0.5
NOTE_HIDDEN = "This network learns from hidden patches only; visible ones are shown as they are."
NOTE_STANDARDIZED = (
    "Predictions of standardized patches are shown with mean and deviation of the true patches, which tell part of the "
    "answer."
)


@dataclass(frozen=True)
class Reconstruction:
    """One image, gray values from 0 to 1, (H, W) each.

    Attributes:
        case: name of the image.
        original: what is to be restored.
        blurred: the network's input before patches are hidden.
        masked: the same with hidden patches gray.
        restored: the prediction; of networks that learn from hidden patches only, with visible ones as they are.
        loss: the training's loss of this image.
        share: share of patches hidden.
    """

    case: str
    original: np.ndarray
    blurred: np.ndarray
    masked: np.ndarray
    restored: np.ndarray
    loss: float
    share: float

    @property
    def psnr_db(self) -> float:
        """Peak signal-to-noise ratio of the restored image."""
        error = float(np.square(self.restored - self.original).mean())
        return float("inf") if error == 0 else -10 * np.log10(error)


@torch.no_grad()
def reconstruct(
    network: nn.Module, image: torch.Tensor, target: torch.Tensor, case: str, seed: int = 0
) -> Reconstruction:
    """Hides patches of an image and restores them.

    Args:
        network: a `custom_networks.layers.masked_autoencoder.MaskedAutoencoder` in evaluation mode.
        image: blurred, normalized, (3, H, W), on the network's device.
        target: original, the same.
        case: name of the image.
        seed: of the mask.
    """
    with seeded(seed, image.device):
        output = network(image[None], target_image=target[None])
    patches, truth = (patchify(values[None], network.patch_size) for values in (image, target))
    predicted, hidden = output.prediction.to(truth), output.mask[..., None]
    if network.norm_pix:
        predicted = destandardize_patches(predicted, truth)
    if network.loss_on == "hidden":
        predicted = torch.where(hidden, predicted, patches)

    def picture(vectors: torch.Tensor) -> np.ndarray:
        values = unpatchify(vectors, network.grid, network.patch_size)[0].float().cpu().numpy()
        return (values * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))).mean(0).clip(0, 1)

    covered = unpatchify(hidden.expand_as(patches).float(), network.grid, network.patch_size)[0, 0].cpu().numpy()
    blurred = picture(patches)
    masked = np.where(covered > 0.5, HIDDEN_GRAY, blurred)
    return Reconstruction(
        case,
        picture(truth),
        blurred,
        masked,
        picture(predicted),
        float(masked_patch_loss(output)),
        float(output.mask.float().mean()),
    )


def draw_reconstructions(cases: Sequence[Reconstruction], path: str | Path, note: str = "") -> None:
    """Draws each image as a row: blurred, masked, restored, original.

    Args:
        cases: at least one.
        path: the figure.
        note: line below.
    """
    with figure(path, len(cases), 4, 2.3, 2.5) as (drawn, grid):
        for case, row in zip(cases, grid, strict=True):
            hidden, restored = f"{100 * case.share:.0f} % hidden", f"restored, PSNR {case.psnr_db:.1f} dB"
            titles = (f"{case.case}, input", hidden, restored, "original")
            shown = (case.blurred, case.masked, case.restored, case.original)
            for axes, picture, title in zip(row, shown, titles, strict=True):
                axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
                axes.axis("off")
                axes.set_title(title, fontsize=8, fontweight="normal")
        if note:
            drawn.supxlabel(note, fontsize=7, x=0.02, ha="left")


class ReconstructionFigures(ExampleFigures):
    """Handler that draws reconstructions of a few images of a data set, on rank 0.

    Masks are those that the evaluator draws with ``seed_key: index``. The data set's items have ``image``, ``target``,
    ``case`` and ``index``; for the arguments see the base class.
    """

    def example(self, network: nn.Module, item: Mapping[str, Any], device: torch.device) -> Reconstruction:
        """An image, hidden in part and restored."""
        pair = (item[key].to(device) for key in ("image", "target"))
        return reconstruct(network, *pair, item["case"], derived_seed(int(item["index"])))

    def draw(self, examples: Sequence[Reconstruction]) -> None:
        """Draws all images."""
        network = without_ddp(self.network)
        notes = [NOTE_HIDDEN] * (network.loss_on == "hidden") + [NOTE_STANDARDIZED] * bool(network.norm_pix)
        draw_reconstructions(examples, self.path, "\n".join(notes))
