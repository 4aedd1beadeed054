"""Handler that starts a training from the weights of another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from custom_apps.common.distributed import without_ddp
from custom_apps.common.errors import DataError
from custom_networks.published.reading import CheckpointError, read_checkpoint


class PretrainedWeights:
    """Transfers weights when a training begins anew; a training that goes on keeps its own.

    Attach it after :class:`~custom_apps.common.checkpoints.TrainingState`.

    Args:
        path: checkpoint to read, ours or the authors', or a safetensors file; None for none.
        network: network to fill, DistributedDataParallel or not.
        transfer: function (checkpoint content, network) that fills the network and returns a report to log.
        weight_average: average that starts from the transferred weights, with a method ``reset``.

    Raises (when the engine starts):
        DataError: naming the file, when it is missing, cannot be read safely, or does not fit the network.
    """

    def __init__(
        self,
        path: str | Path | None,
        network: nn.Module,
        transfer: Callable[[dict[str, Any], nn.Module], Any],
        weight_average: Any = None,
    ):
        self.path, self.network, self.transfer, self.weight_average = path, network, transfer, weight_average

    def attach(self, engine: Engine) -> None:
        """Registers the handler on a trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Transfers, unless the training goes on."""
        if self.path is None or engine.state.epoch > 0:
            return
        try:
            report = self.transfer(read_checkpoint(self.path), without_ddp(self.network))
        except CheckpointError as error:
            raise DataError(self.path, str(error).removeprefix(f"{self.path}: ")) from error
        if self.weight_average is not None:
            self.weight_average.reset()
        engine.logger.info(f"pre-trained weights of {self.path}: {report}")
