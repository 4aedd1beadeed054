"""Pictures of what a masked autoencoder of brain volumes sees and predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from custom_apps.brain.contrasts import CONTRASTS, TITLES
from custom_apps.brain.pictures import plane, show
from custom_apps.common.example_figures import ExampleFigures
from custom_apps.common.figures import figure
from custom_apps.common.seeding import derived_seed, seeded
from custom_networks.layers.masked_prediction import masked_patch_loss
from custom_networks.layers.patch_tokens import patchify, unpatchify

if TYPE_CHECKING:
    from torch import nn

ROWS = ("original", "masked", "restored", "all predicted")
HIDDEN_RGB = (0.16, 0.16, 0.32)
NEIGHBORS = 8
NOTE = (
    "Predictions of standardized patches are shown with means and deviations carried over from the nearest visible "
    "patches;\nthe true ones of hidden patches are unknown to the network and not used."
)


@dataclass(frozen=True)
class Reconstruction:
    """One axial slice of a volume, each (4, rows, columns) in the gray values of the network's input.

    Attributes:
        case: name of the patient.
        original: the input.
        restored: visible patches as they are, hidden ones as predicted.
        predicted: all patches as predicted.
        hidden: True where patches are hidden, (rows, columns).
        loss: the training's loss of this volume.
        share: share of patches hidden.
        standardized: whether the network predicts standardized patches.
    """

    case: str
    original: np.ndarray
    restored: np.ndarray
    predicted: np.ndarray
    hidden: np.ndarray
    loss: float
    share: float
    standardized: bool


def carried_statistics(
    vectors: torch.Tensor, hidden: torch.Tensor, grid: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of every patch, those of hidden patches from their nearest visible ones.

    Args:
        vectors: patch vectors of one image, (L, P); those of hidden patches are not looked at.
        hidden: (L,).
        grid: patches along every axis.

    Returns:
        Mean and deviation, (L, 1) each: own ones of visible patches, and averages of the `NEIGHBORS` nearest visible
        patches for hidden ones, weighted by the inverse square of the distance.
    """
    from scipy.spatial import cKDTree

    variance, mean = torch.var_mean(vectors, dim=-1, keepdim=True)
    statistics = torch.cat([mean, torch.sqrt(variance + 1e-6)], dim=-1).cpu()
    places = np.stack(np.meshgrid(*(np.arange(n) for n in grid), indexing="ij"), -1).reshape(-1, len(grid))
    unseen = hidden.cpu().numpy()
    known = np.flatnonzero(~unseen)
    distance, near = cKDTree(places[known]).query(places[unseen], k=min(NEIGHBORS, len(known)))
    distance, near = distance.reshape(unseen.sum(), -1), near.reshape(unseen.sum(), -1)
    weight = torch.from_numpy(1 / distance**2).float()
    weight = weight / weight.sum(-1, keepdim=True)
    statistics[torch.from_numpy(unseen)] = (weight[..., None] * statistics[torch.from_numpy(known[near])]).sum(1)
    return statistics[:, :1].to(vectors), statistics[:, 1:].to(vectors)


@torch.no_grad()
def reconstruct(
    network: nn.Module, image: torch.Tensor, case: str, seed: int = 0, slice_index: int | None = None
) -> Reconstruction:
    """Hides patches of a volume and predicts them.

    Args:
        network: a `custom_networks.layers.masked_autoencoder.MaskedAutoencoder` in evaluation mode.
        image: (4, x, y, z), normalized, axes to the right, to the front and upwards, on the network's device.
        case: name of the patient.
        seed: of the mask.
        slice_index: axial slice; None for the middle.
    """
    image = image.as_tensor() if hasattr(image, "as_tensor") else image
    with seeded(seed, image.device):
        output = network(image[None])
    patches, hidden = patchify(image[None], network.patch_size)[0], output.mask[0]
    predicted = output.prediction[0].to(patches)
    if network.norm_pix:
        mean, deviation = carried_statistics(patches, hidden, network.grid)
        predicted = predicted * deviation + mean
    restored = torch.where(hidden[:, None], predicted, patches)
    covered = hidden[:, None].expand_as(patches).to(patches)
    place = image.shape[-1] // 2 if slice_index is None else slice_index

    def axial(vectors: torch.Tensor) -> np.ndarray:
        volume = unpatchify(vectors[None], network.grid, network.patch_size)[0]
        return np.stack([plane(channel, (0, 0, place), "axial") for channel in volume.float().cpu().numpy()])

    return Reconstruction(
        case,
        axial(patches),
        axial(restored),
        axial(predicted),
        axial(covered)[0] > 0.5,
        float(masked_patch_loss(output)),
        float(hidden.float().mean()),
        bool(network.norm_pix),
    )


def draw_reconstructions(cases: Sequence[Reconstruction], path: str | Path) -> None:
    """Draws each case as four rows (original, masked, restored, all predicted) of the four contrasts.

    Gray values of a contrast are scaled alike in all rows, by the 0.5th and 99.5th percentile of the original.

    Args:
        cases: at least one.
        path: the figure.
    """
    with figure(path, len(ROWS) * len(cases), len(CONTRASTS), width=1.75, height=1.75) as (drawn, grid):
        for number, case in enumerate(cases):
            rows = grid[len(ROWS) * number : len(ROWS) * (number + 1)]
            for channel, name in enumerate(CONTRASTS):
                low, high = np.percentile(case.original[channel], [0.5, 99.5])
                masked = np.repeat(
                    ((case.original[channel] - low) / max(high - low, 1e-6)).clip(0, 1)[..., None], 3, -1
                )
                masked[case.hidden] = HIDDEN_RGB
                shown = (case.original[channel], masked, case.restored[channel], case.predicted[channel])
                for axes, picture in zip(rows[:, channel], shown, strict=True):
                    show(axes, picture, vmin=low, vmax=high)
                rows[0, channel].set_title(f" \n{TITLES[name]}", fontsize=8, fontweight="normal", loc="center")
            for axes, label in zip(rows[:, 0], ROWS, strict=True):
                axes.set_ylabel(label, fontsize=8)
            title = f"{case.case}: {100 * case.share:.0f} % hidden, loss {case.loss:.3f}"
            text = rows[0, 0].text(0, 1.17, title, transform=rows[0, 0].transAxes, fontsize=8.5, fontweight="bold")
            text.set_in_layout(False)
        if any(case.standardized for case in cases):
            drawn.supxlabel(NOTE, fontsize=7, x=0.02, ha="left")


class ReconstructionFigures(ExampleFigures):
    """Handler that draws reconstructions of a few volumes of a data set, on rank 0.

    Masks are those that the evaluator draws with ``seed_key: index``. The data set's items have ``image`` (4, x, y, z),
    ``case`` and ``index``; for the arguments see the base class.
    """

    def example(self, network: nn.Module, item: Mapping[str, Any], device: torch.device) -> Reconstruction:
        """A volume, hidden in part and predicted."""
        return reconstruct(network, item["image"].to(device), item["case"], derived_seed(int(item["index"])))

    def draw(self, examples: Sequence[Reconstruction]) -> None:
        """Draws all volumes."""
        draw_reconstructions(examples, self.path)
