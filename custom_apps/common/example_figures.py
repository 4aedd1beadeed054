"""Pictures of what a network makes of a few items of a data set, drawn again while it trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ignite.engine import Engine, Events

from custom_apps.common.distributed import is_main_process, without_ddp

if TYPE_CHECKING:
    import torch
    from torch import nn


class ExampleFigures(ABC):
    """Handler of a trainer or an evaluator that draws examples on rank 0; a subclass says what and how.

    Args:
        path: the figure, replaced each time.
        network: DistributedDataParallel or not; in evaluation mode while it makes examples.
        dataset: items by index.
        examples: number of items, spread evenly over the data set.
        every: epochs between drawings; the end of the run counts too.
    """

    def __init__(self, path: str | Path, network: nn.Module, dataset: Any, examples: int = 4, every: int = 1):
        self.path, self.network, self.dataset = Path(path), network, dataset
        self.examples, self.every = examples, every

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.every) | Events.COMPLETED, self)

    def __call__(self, _engine: Engine) -> None:
        """Draws the figure."""
        if not is_main_process():
            return
        network = without_ddp(self.network)
        training, device = network.training, next(network.parameters()).device
        network.eval()
        places = np.unique(np.linspace(0, len(self.dataset) - 1, self.examples).astype(int)).tolist()
        found = [self.example(network, self.dataset[place], device) for place in places]
        network.train(training)
        self.draw(found)

    @abstractmethod
    def example(self, network: nn.Module, item: Mapping[str, Any], device: torch.device) -> Any:
        """What is drawn of an item of the data set."""

    @abstractmethod
    def draw(self, examples: Sequence[Any]) -> None:
        """Draws all examples into ``path``."""
