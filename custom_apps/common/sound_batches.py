"""Prediction goes on when some files are damaged: batches of those that can be read, and a list of the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from ignite.engine import Events
from monai.engines import Workflow
from torch.utils.data import DataLoader, Dataset

from custom_apps.common.errors import DataError, data_error_of

logger = logging.getLogger(__name__)


class SoundBatches:
    """Batches of one item each; items that raise a :class:`DataError` are left out and noted.

    Args:
        engine: that iterates; the length of its epoch shrinks with every item left out.

    Attributes:
        broken: case to the error that it raised.
    """

    def __init__(self, engine: Workflow):
        loader = engine.data_loader
        if loader.batch_size != 1:
            raise ValueError(f"batches of {loader.batch_size}, expected one item each")
        self.engine, self.broken, self._ended = engine, {}, False
        self._loader = DataLoader(
            _Caught(loader.dataset),
            batch_size=1,
            num_workers=loader.num_workers,
            collate_fn=_PassErrors(loader.collate_fn),
        )
        engine.add_event_handler(Events.STARTED, self._begin)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        """Makes the batches."""
        # Ignite begins again with a loader that ends early, before it asks whether the epoch has become shorter.
        if self._ended:
            return
        for batch in self._loader:
            if isinstance(batch, _Broken):
                self._note(batch)
            else:
                yield batch
        self._ended = True

    def _begin(self) -> None:
        self.broken, self._ended = {}, False
        self.engine.state.epoch_length = len(self)

    def _note(self, broken: _Broken) -> None:
        self.broken[broken.case] = broken.error
        self.engine.state.epoch_length -= 1
        logger.info("%s is left out: %s", broken.case, broken.error)


def leave_out_broken(engine: Workflow) -> SoundBatches:
    """Makes an evaluator, whose data set is a list of items with ``case``, skip what cannot be read or prepared."""
    engine.data_loader = SoundBatches(engine)
    return engine.data_loader


class _Broken:
    def __init__(self, case: str, error: DataError):
        self.case, self.error = case, error


class _Caught(Dataset):
    """Items of a data set, or what was wrong with them."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except Exception as error:
            if (cause := data_error_of(error)) is None:
                raise
            # A new one: the traceback of the other keeps the item's arrays alive.
            return _Broken(str(self.dataset.data[index]["case"]), DataError(cause.path, cause.problem, cause.expected))


class _PassErrors:
    """Collates items; an error stays as it is."""

    def __init__(self, collate: Callable[[list[Any]], Any]):
        self.collate = collate

    def __call__(self, items: list[Any]) -> Any:
        (item,) = items
        return item if isinstance(item, _Broken) else self.collate(items)
