"""Items of a list of records, each a function of seed, epoch and place, whatever process makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import Compose, Randomizable
from torch.utils.data import Dataset

from custom_apps.common.errors import DataError

Place = int | tuple[int, int, int]
"""Index of a record; or epoch, index, and how often the sampler has come to that record within the epoch."""


class ItemDataset(Dataset):
    """Records turned into items by a chain of transforms.

    Item ``(epoch, index, turn)`` is always the same with the same augmentation, in whatever worker or process it is
    made, so that a resumed run continues exactly. A plain index means turn 0 of :meth:`set_epoch`'s epoch. Every item
    has ``index`` (place in ``records``) and ``epoch``.

    Args:
        records: dictionaries with ``case`` and with ``image``, a path or a list of paths.
        transform: transform of dictionaries, or a MONAI ``Compose`` of several; Randomizable ones are seeded here.
        seed: with epoch, index and turn the source of every draw.

    Raises:
        ValueError: without records.
        DataError: on access, whatever goes wrong with an item, naming its file.
    """

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        transform: Callable[[dict[str, Any]], dict[str, Any]],
        seed: int = 0,
    ):
        if not records:
            raise ValueError("no records to make items of")
        self.records, self.seed, self.epoch = list(records), int(seed), 0
        self.transform = transform if isinstance(transform, Compose) else Compose([transform])

    def __len__(self) -> int:
        return len(self.records)

    def set_epoch(self, epoch: int) -> None:
        """Epoch of items asked for by a plain index; a sampler that knows the epoch asks for all three."""
        self.epoch = int(epoch)

    def __getitem__(self, index: Place) -> dict[str, Any]:
        epoch, index, turn = index if isinstance(index, tuple) else (self.epoch, index, 0)
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        if isinstance(self.transform, Randomizable):
            source = np.random.SeedSequence([self.seed, epoch, index, turn])
            self.transform.set_random_state(seed=int(source.generate_state(1)[0]))
        try:
            item = self.finished(self.transform(self.started(index)))
        except Exception as error:
            raise explained(error, self.records[index]) from error
        return item | {"index": index, "epoch": epoch}

    def __getitems__(self, indices: Sequence[Place]) -> list[dict[str, Any]] | DataError:
        """A batch's items, or the error that one of them raised.

        Errors of a worker process arrive as mere text unless they are handed over as what they are.
        """
        try:
            return [self[index] for index in indices]
        except DataError as error:
            return error

    def started(self, index: int) -> dict[str, Any]:
        """What the transforms begin with; here a copy of the record."""
        return dict(self.records[index])

    def finished(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """What is left of an item after the transforms; here all of it."""
        return dict(item)


def explained(error: Exception, record: Mapping[str, Any]) -> DataError:
    """The error about the data below what transforms wrapped around it; any other error as one about this item."""
    path = record["image"]
    if not isinstance(path, (str, Path)):
        path = Path(path[0]).parent if len(path) else record["case"]
    cause: BaseException | None = error
    last: BaseException = error
    while cause is not None:
        if isinstance(cause, DataError):
            if cause.path == str(record.get("case")):
                return DataError(path, cause.problem, cause.expected)
            return cause
        last, cause = cause, cause.__cause__ or cause.__context__
    return DataError(path, f"cannot be loaded ({type(last).__name__}: {last})")
