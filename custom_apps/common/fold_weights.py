"""Handler that predicts every case with the model of its own fold, which has not seen it."""

from __future__ import annotations

from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch import nn

from custom_apps.common.checkpoint_files import load_weights, read_checkpoint


class FoldWeights:
    """Loads the weights of a batch's fold before the batch is predicted, if they are not loaded yet.

    Cases should be sorted by fold, so that each file is read once. Batches hold cases of one fold only; those of a
    single case always do.

    Args:
        path: file of each fold, with ``{fold}`` for its number, such as ``models/fold_{fold}/model.pt``.
        network: network to fill, DistributedDataParallel or not.
        key: key of the batch with the number of the fold.

    Raises (when a batch comes):
        DataError: naming the file, when it is missing, unreadable, or of another network.
        ValueError: for a batch of several folds.
    """

    def __init__(self, path: str | Path, network: nn.Module, key: str = "fold"):
        self.path, self.network, self.key = str(path), network, key
        self.loaded: int | None = None

    def attach(self, engine: Engine) -> None:
        """Registers the handler on an evaluator."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Loads the weights."""
        folds = torch.as_tensor(engine.state.batch[self.key]).unique().tolist()
        if len(folds) != 1:
            raise ValueError(f"a batch holds cases of the folds {folds}; use batches of one case")
        if folds[0] == self.loaded:
            return
        path = self.path.format(fold=folds[0])
        load_weights(self.network, read_checkpoint(path), path)
        self.loaded = folds[0]
        engine.logger.info(f"weights of {path}")
