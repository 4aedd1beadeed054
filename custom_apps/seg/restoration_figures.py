"""Pictures of what an autoencoder is shown and what it restores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from custom_apps.common.distributed import is_main_process, without_ddp
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
def restore(network: nn.Module, item: Mapping[str, Any]) -> Restoration:
    """Restores one patch.

    Args:
        network: in evaluation mode; may return a list, highest resolution first.
        item: ``image`` disrupted and ``target`` clean, (C, *S), and ``case``.
    """
    device = next(network.parameters()).device
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


class RestorationFigures:
    """Handler that draws what a network restores of a few patches, on rank 0.

    Args:
        path: the figure, replaced each time.
        network: the autoencoder, DistributedDataParallel or not.
        dataset: patches with ``image``, ``target`` and ``case``, the same whenever they are asked for.
        images: number of patches, spread evenly over the data set.
        every: epochs between drawings; the end of the run counts too.
    """

    def __init__(self, path: str | Path, network: nn.Module, dataset: Any, images: int = 4, every: int = 1):
        self.path, self.network, self.dataset = Path(path), network, dataset
        self.images, self.every = images, every

    def attach(self, engine: Engine) -> None:
        """Registers the handler on a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.every) | Events.COMPLETED, self)

    def __call__(self, _engine: Engine) -> None:
        """Draws the figure."""
        if not is_main_process():
            return
        network = without_ddp(self.network)
        training = network.training
        network.eval()
        places = np.unique(np.linspace(0, len(self.dataset) - 1, self.images).astype(int)).tolist()
        patches = [restore(network, self.dataset[place]) for place in places]
        network.train(training)
        draw_restorations(patches, self.path)
