"""Batches with and without labels: which iteration gets which, the same on every process and after a resumption."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import Dataset

from custom_apps.seg.patch_sampling import PatchDataset

METHODS = ("labeled", "consistency", "pseudo_labels")


class SemiSupervisedPatches(Dataset):
    """Every batch is either of labeled patches or of patches without labels.

    In epoch ``e`` of ``E``, counted from 0, a batch has no labels with probability ``min(largest, e / E + first)``. The
    draw follows from seed, epoch and place of the batch alone. Items have the key ``method``, one of `METHODS`, beside
    those of the data set that they come from.

    Args:
        labeled: patches with labels; gives number and size of the batches.
        unlabeled: patches with the two views ``image`` and ``weak``, in batches of the same size.
        epochs: E, epochs of the training.
        first: probability at the beginning: 0.1 in the published second stage, 0.3 in the third.
        largest: largest probability.
        pseudo_label_share: share of the batches without labels that are taught by pseudo labels instead of
            consistency: 0 in the second stage, 0.25 in the third.
        seed: seed of the draws.

    Raises:
        ValueError: for a probability out of range, or data sets that differ in number or size of batches.

    Source: U-Mamba2-SSL, arXiv 2509.20154.
    """

    def __init__(
        self,
        labeled: PatchDataset,
        unlabeled: PatchDataset,
        epochs: int,
        first: float = 0.1,
        largest: float = 0.5,
        pseudo_label_share: float = 0.0,
        seed: int = 0,
    ):
        if not all(0 <= value <= 1 for value in (first, largest, pseudo_label_share)):
            raise ValueError(f"first {first}, largest {largest} and pseudo_label_share {pseudo_label_share} are shares")
        shapes = [(part.iterations, part.batch_size) for part in (labeled, unlabeled)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"labeled and unlabeled batches differ in number and size: {shapes[0]}, {shapes[1]}")
        self.labeled, self.unlabeled, self.epochs = labeled, unlabeled, max(1, int(epochs))
        self.first, self.largest, self.pseudo_label_share = first, largest, pseudo_label_share
        self.seed, self.epoch = int(seed), 0
        self.iterations, self.batch_size = shapes[0]

    def __len__(self) -> int:
        return len(self.labeled)

    def set_epoch(self, epoch: int) -> None:
        """Epoch of items asked for by a plain index."""
        self.epoch = int(epoch)

    def probability(self, epoch: int) -> float:
        """Probability of a batch without labels in an epoch as engines count them, from 1."""
        return min(self.largest, max(0, epoch - 1) / self.epochs + self.first)

    def method(self, epoch: int, batch: int) -> str:
        """What a batch of an epoch teaches by."""
        random = np.random.RandomState(np.random.SeedSequence([self.seed, epoch, batch]).generate_state(4))
        without_labels, by_pseudo_labels = random.uniform(size=2) < (self.probability(epoch), self.pseudo_label_share)
        if not without_labels:
            return "labeled"
        return "pseudo_labels" if by_pseudo_labels else "consistency"

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        epoch, position = index if isinstance(index, tuple) else (self.epoch, index)
        method = self.method(epoch, position // self.batch_size)
        patches = self.labeled if method == "labeled" else self.unlabeled
        return patches[epoch, position] | {"method": method}
