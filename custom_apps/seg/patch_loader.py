"""Batches of patches: which process and worker makes which patch, and how all learn the epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from custom_apps.common import distributed
from custom_apps.seg.patch_sampling import PatchDataset


def share_of_batch(batch_size: int, rank: int, world_size: int) -> range:
    """Places of the global batch that belong to a process: ``ceil(batch / processes)`` each, the last gets the rest.

    Since whether a patch must show foreground depends on its place in the global batch, the global share of forced
    patches stays the same (nnU-Net, Isensee et al. 2021).

    Raises:
        ValueError: when some process would get nothing.
    """
    each = -(-batch_size // world_size)
    if each * (world_size - 1) >= batch_size:
        raise ValueError(f"a batch of {batch_size} cannot be divided among {world_size} processes")
    return range(each * rank, min(each * (rank + 1), batch_size))


class PatchSampler(DistributedSampler):
    """Yields ``(epoch, index)`` of the patches of this process, batch after batch.

    The epoch travels with the index, so that workers which live through all epochs need not be told. It derives from
    PyTorch's ``DistributedSampler`` because MONAI's engines call ``set_epoch`` on that class at the start of an epoch.

    Args:
        dataset: the patches.
        rank, world_size: this process and the number of processes; asked of the process group when None.
    """

    def __init__(self, dataset: PatchDataset, rank: int | None = None, world_size: int | None = None):
        rank = distributed.rank() if rank is None else rank
        world_size = distributed.world_size() if world_size is None else world_size
        super().__init__(dataset, world_size, rank, shuffle=False)
        self.share = share_of_batch(dataset.batch_size, rank, world_size)

    def __len__(self) -> int:
        return self.dataset.iterations * len(self.share)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for batch in range(self.dataset.iterations):
            for place in self.share:
                yield self.epoch, batch * self.dataset.batch_size + place


class PatchLoader(DataLoader):
    """DataLoader over a :class:`PatchDataset` whose length is the number of iterations of an epoch.

    Args:
        dataset: the patches; its ``batch_size`` is that of all processes together.
        num_workers: worker processes; 0 makes the patches in this one. They live through all epochs.
        pin_memory: page-locked memory, for copies to a GPU.
        prefetch_factor: batches that each worker keeps ready.
        rank, world_size: see :class:`PatchSampler`.
        collate_fn: makes a batch of items; PyTorch's when None.
    """

    def __init__(
        self,
        dataset: PatchDataset,
        num_workers: int = 0,
        pin_memory: bool = False,
        prefetch_factor: int = 2,
        rank: int | None = None,
        world_size: int | None = None,
        collate_fn: Callable[[list], Any] | None = None,
    ):
        sampler = PatchSampler(dataset, rank, world_size)
        workers = {"persistent_workers": True, "prefetch_factor": prefetch_factor} if num_workers else {}
        super().__init__(
            dataset,
            batch_size=len(sampler.share),
            sampler=sampler,
            num_workers=num_workers,
            pin_memory=pin_memory,
            collate_fn=collate_fn,
            **workers,
        )
