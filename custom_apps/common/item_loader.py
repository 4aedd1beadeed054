"""Batches of items: their order, which process makes which, and errors of workers that name the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, default_collate
from torch.utils.data.distributed import DistributedSampler

from custom_apps.common import distributed
from custom_apps.common.errors import DataError


class ItemSampler(DistributedSampler):
    """Yields ``(epoch, index, turn)`` for the items of this process.

    Shuffled, it goes through random orders that derive from seed, epoch and turn, deals them out to the processes like
    cards and ends with the last full batch, or after ``iterations`` batches, for which it starts over as often as
    needed. Unshuffled, every index comes once over all processes, always with the draws of epoch 0; processes may then
    differ in length by one.

    It derives from PyTorch's ``DistributedSampler`` because MONAI's engines call ``set_epoch`` on that class at the
    start of an epoch.

    Args:
        dataset: anything with a length.
        batch_size: items of a batch of this process.
        shuffle: for training.
        iterations: batches of an epoch; with None as many as the data set fills.
        seed: of the order.
        rank, world_size: this process and the number of processes; asked of the process group when None.

    Raises:
        ValueError: shuffled without ``iterations``, and fewer items than one batch of all processes needs.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        shuffle: bool,
        iterations: int | None = None,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ):
        rank = distributed.rank() if rank is None else rank
        world_size = distributed.world_size() if world_size is None else world_size
        super().__init__(dataset, world_size, rank, shuffle=shuffle, seed=seed)
        if iterations is not None and (iterations < 1 or not shuffle):
            raise ValueError(f"iterations ({iterations}) must be at least 1, and are for shuffled items")
        if shuffle and iterations is None and len(dataset) < batch_size * world_size:
            raise ValueError(
                f"{len(dataset)} items do not fill a batch of {batch_size} on {world_size} processes; "
                "lower the batch size or give iterations"
            )
        self.batch_size, self.iterations = batch_size, iterations

    def __len__(self) -> int:
        if not self.shuffle:
            return len(range(self.rank, len(self.dataset), self.num_replicas))
        return self.batch_size * (self.iterations or len(self.dataset) // (self.batch_size * self.num_replicas))

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        if not self.shuffle:
            yield from ((0, index, 0) for index in range(self.rank, len(self.dataset), self.num_replicas))
            return
        count = len(self.dataset)
        order, known = np.empty(0, np.int64), -1
        for place in range(self.rank, len(self) * self.num_replicas, self.num_replicas):
            turn, position = divmod(place, count)
            if turn != known:
                order, known = self.order(turn), turn
            yield self.epoch, int(order[position]), turn

    def order(self, turn: int) -> np.ndarray:
        """The order of the items when the sampler goes through them for the ``turn``-th time of this epoch."""
        source = np.random.SeedSequence([self.seed, self.epoch, turn])
        return np.random.RandomState(source.generate_state(4)).permutation(len(self.dataset))


class ItemLoader(DataLoader):
    """DataLoader of an :class:`~custom_apps.common.item_dataset.ItemDataset`; see :func:`item_loader`."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Batches; a :class:`DataError` of a worker is raised as such here."""
        for batch in super().__iter__():
            if isinstance(batch, DataError):
                # A new one: an error that its own traceback refers to lives until the garbage collector comes, and
                # with it the workers.
                raise DataError(batch.path, batch.problem, batch.expected)
            yield batch


class ItemCollate:
    """Stacks items to a batch.

    Args:
        finish: what is done with a batch once it is stacked, such as blending its items: a function of the batch and of
            a generator whose draws derive from seed, epoch and the items in the batch.
        seed: see above.

    Errors that the data set hands over are passed on.
    """

    def __init__(
        self,
        finish: Callable[[dict[str, Any], np.random.RandomState], dict[str, Any]] | None = None,
        seed: int = 0,
    ):
        self.finish, self.seed = finish, seed

    def __call__(self, items: list[dict[str, Any]] | DataError) -> dict[str, Any] | DataError:
        """The batch."""
        if isinstance(items, DataError):
            return items
        shapes = {tuple(item["image"].shape) for item in items}
        if len(shapes) > 1:
            return DataError(items[0]["case"], f"images of different shapes in a batch {sorted(shapes)}", "one shape")
        batch = default_collate(items)
        if self.finish is None:
            return batch
        source = np.random.SeedSequence([self.seed, items[0]["epoch"], *(item["index"] for item in items)])
        return self.finish(batch, np.random.RandomState(source.generate_state(4)))


def item_loader(
    dataset: Dataset,
    batch_size: int,
    shuffle: bool,
    num_workers: int = 0,
    iterations: int | None = None,
    seed: int = 0,
    finish: Callable[[dict[str, Any], np.random.RandomState], dict[str, Any]] | None = None,
    pin_memory: bool = False,
    prefetch_factor: int = 2,
    rank: int | None = None,
    world_size: int | None = None,
) -> ItemLoader:
    """Batches of items, in an order that derives from seed and epoch.

    Args:
        dataset: an :class:`~custom_apps.common.item_dataset.ItemDataset`.
        batch_size: items in a batch of each process.
        shuffle: True for training: random order, full batches only. False for evaluation: every item once over all
            processes, the last batch as large as it comes.
        num_workers: worker processes; 0 makes the items in this one. They live through all epochs.
        iterations: batches in an epoch whatever the number of items (fixed-length epochs), for training.
        seed: of the order and of ``finish``.
        finish: see :class:`ItemCollate`.
        pin_memory: page-locked memory, for copies to a GPU.
        prefetch_factor: batches that each worker keeps ready.
        rank, world_size: see :class:`ItemSampler`.

    Returns:
        A DataLoader whose sampler is a ``DistributedSampler``, so that MONAI's engines tell it the epoch.
    """
    sampler = ItemSampler(dataset, batch_size, shuffle, iterations, seed, rank, world_size)
    workers = {"persistent_workers": True, "prefetch_factor": prefetch_factor} if num_workers else {}
    return ItemLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=ItemCollate(finish, seed),
        pin_memory=pin_memory,
        drop_last=shuffle,
        **workers,
    )
