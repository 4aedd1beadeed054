"""Pictures of what an autoencoder is shown and what it restores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from custom_apps.common.example_figures import ExampleFigures
from custom_apps.common.figures import figure

if TYPE_CHECKING:
    from torch import nn

WINDOW_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Restoration:
    """The middle slice of one patch, first channel, each array (H, W) in normalized intensities.

    Attributes:
        case: name of the image.
        clean: as prepared.
        disrupted: what the network sees.
        restored: what it makes of it.
        error: mean absolute difference of restored and clean over the whole patch.
        error_before: the same of disrupted and clean.
    """

    case: str
    clean: np.ndarray
    disrupted: np.ndarray
    restored: np.ndarray
    error: float
    error_before: float


@torch.no_grad()
def restore(network: nn.Module, item: Mapping[str, Any], device: torch.device | None = None) -> Restoration:
    """Restores one patch.

    Args:
        network: in evaluation mode; may return a list, highest resolution first.
        item: ``image`` disrupted and ``target`` clean, (C, *S), and ``case``.
        device: where the network is, the CPU when None.
    """
    output = network(item["image"][None].to(device))
    restored = (output[0] if isinstance(output, list) else output)[0].float().cpu()
    clean, disrupted = item["target"], item["image"]

    def middle(volume: torch.Tensor) -> np.ndarray:
        channel = volume[0]
        return (channel if channel.ndim == 2 else channel[channel.shape[0] // 2]).numpy()

    errors = [float((image - clean).abs().mean()) for image in (restored, disrupted)]
    return Restoration(item["case"], middle(clean), middle(disrupted), middle(restored), *errors)


def draw_restorations(patches: Sequence[Restoration], path: str | Path) -> None:
    """Draws each patch as a row: clean, disrupted, restored, in the gray window of the clean slice.

    Args:
        patches: at least one.
        path: the figure.
    """
    with figure(path, len(patches), 3, 2.6, 2.6) as (_, grid):
        for patch, row in zip(patches, grid, strict=True):
            low, high = np.percentile(patch.clean, WINDOW_PERCENTILES)
            titles = (
                f"{patch.case}, clean",
                f"disrupted, mean error {patch.error_before:.2f}",
                f"restored, {patch.error:.2f}",
            )
            shown = (patch.clean, patch.disrupted, patch.restored)
            for axes, picture, title in zip(row, shown, titles, strict=True):
                axes.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
                axes.axis("off")
                axes.set_title(title, fontsize=8, fontweight="normal")


class RestorationFigures(ExampleFigures):
    """Handler that draws what a network restores of a few patches, on rank 0.

    Args:
        path, network, dataset, examples, every: of :class:`~custom_apps.common.example_figures.ExampleFigures`;
            patches have ``image``, ``target`` and ``case`` and are the same whenever they are asked for.
    """

    def example(self, network: nn.Module, item: Mapping[str, Any], device: torch.device) -> Restoration:
        """A patch and what is restored of it."""
        return restore(network, item, device)

    def draw(self, examples: Sequence[Restoration]) -> None:
        """Draws all patches."""
        draw_restorations(examples, self.path)
