"""Batches of clips."""

from __future__ import annotations

from custom_apps.common.item_loader import ItemLoader, item_loader
from custom_apps.common.mixup import mixup as blended
from custom_apps.echo.clip_dataset import ClipDataset


def clip_loader(
    dataset: ClipDataset,
    batch_size: int,
    shuffle: bool,
    num_workers: int = 0,
    iterations: int | None = None,
    seed: int = 0,
    mixup: bool = False,
    pin_memory: bool = False,
    prefetch_factor: int = 2,
    rank: int | None = None,
    world_size: int | None = None,
) -> ItemLoader:
    """Batches of clips, in an order that derives from seed and epoch; an error in a worker names the file.

    Args:
        dataset: the clips.
        batch_size: clips in a batch of each process.
        shuffle: True for training: random order, full batches only. False for evaluation: every video once over all
            processes, the last batch as large as it comes.
        num_workers: worker processes; 0 makes the clips in this one. They live through all epochs.
        iterations: batches in an epoch whatever the number of videos (fixed-length epochs), for training.
        seed: of the order and of mixup.
        mixup: blend the clips of a batch, see :func:`custom_apps.common.mixup.mixup`.
        pin_memory: page-locked memory, for copies to a GPU.
        prefetch_factor: batches that each worker keeps ready.
        rank, world_size: this process and the number of processes; asked of the process group when None.

    Returns:
        A DataLoader whose sampler is a ``DistributedSampler``, so that MONAI's engines tell it the epoch.
    """
    return item_loader(
        dataset,
        batch_size,
        shuffle,
        num_workers,
        iterations,
        seed,
        finish=blended if mixup else None,
        pin_memory=pin_memory,
        prefetch_factor=prefetch_factor,
        rank=rank,
        world_size=world_size,
    )
