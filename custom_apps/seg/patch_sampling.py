"""Random training patches of a prepared data set, each a function of seed, epoch and place in the epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.transforms import Randomizable
from torch.utils.data import Dataset

from custom_apps.seg.augmentation import TrainingTransforms, ValidationTransforms
from custom_apps.seg.patch_geometry import allowed_start, choose_centre, cut_patch, is_forced

if TYPE_CHECKING:
    from custom_apps.seg.prepared import PreparedCase, PreparedDataset

OUTSIDE = -1


class PatchDataset(Dataset):
    """Patches drawn as nnU-Net draws them: a random case, then a random place or, for a share of them, foreground.

    Item ``(epoch, i)`` is always the same patch with the same augmentation, in whatever worker or process it is made,
    so that a resumed run continues exactly and any number of processes shares one sequence of batches. Items are
    dictionaries: ``image`` float32 (C, *patch_size), ``label`` integer (1, *patch_size), ``case`` its name. In a 2D
    configuration a patch is one slice, and its class decides the slice.

    Args:
        prepared: the data set, a ``PreparedDataset``.
        cases: names of the cases to draw from, with replacement.
        iterations: batches in an epoch: 250 for training and 50 for validation in nnU-Net.
        batch_size: patches in a batch over all processes; the plan's when None.
        seed: with epoch and index the source of every draw.
        training: True cuts larger patches and augments them; False cuts patches of the final size.
        augmentation: transform of the dictionary of ``image`` and ``label`` (-1 outside the image) to the final patch,
            with an attribute ``initial_patch_size`` if it wants larger ones; the published one when None.
        oversample_foreground: share of patches centred on a foreground voxel. They are the last of each batch.
        probabilistic_oversampling: draw for every patch whether it is one of them. Needed with a batch of 1, where
            the fixed rule never shows foreground on purpose.
        cached_cases: number of cases kept open, each a few megabytes of class locations.
        same_every_epoch: every epoch has the patches of the first, so that validations compare.

    Source: nnU-Net, Isensee et al. 2021. Deviation: centres are clamped at both ends of the allowed range.
    """

    def __init__(
        self,
        prepared: PreparedDataset,
        cases: Sequence[str],
        iterations: int = 250,
        batch_size: int | None = None,
        seed: int = 0,
        training: bool = True,
        augmentation: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        oversample_foreground: float = 0.33,
        probabilistic_oversampling: bool = False,
        cached_cases: int = 32,
        same_every_epoch: bool = False,
    ):
        configuration = prepared.configuration
        if not cases:
            raise ValueError(f"no case to draw patches from; the data set has {len(prepared.cases)}")
        self.prepared, self.cases = prepared, list(cases)
        self.patch_size = tuple(int(edge) for edge in configuration.patch_size)
        self.iterations = int(iterations)
        self.batch_size = int(configuration.batch_size if batch_size is None else batch_size)
        if min(self.iterations, self.batch_size) < 1:
            raise ValueError(f"iterations ({iterations}) and batch size ({self.batch_size}) must be at least 1")
        if augmentation is None:
            masked = [channel for channel, mask in enumerate(configuration.use_mask_for_norm) if mask]
            augmentation = TrainingTransforms(self.patch_size, masked_channels=masked) if training else None
        self.augmentation = ValidationTransforms() if augmentation is None else augmentation
        self.initial_patch_size = tuple(getattr(self.augmentation, "initial_patch_size", self.patch_size))
        self.seed, self.training, self.epoch = int(seed), training, 0
        self.oversample_foreground = oversample_foreground
        self.probabilistic_oversampling = probabilistic_oversampling
        self.cached_cases, self.same_every_epoch = cached_cases, same_every_epoch
        self._load = None

    def __len__(self) -> int:
        return self.iterations * self.batch_size

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_load": None}

    def set_epoch(self, epoch: int) -> None:
        """Epoch of items asked for by a plain index; a sampler that knows the epoch asks for ``(epoch, index)``."""
        self.epoch = int(epoch)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        epoch, position = index if isinstance(index, tuple) else (self.epoch, index)
        if not 0 <= position < len(self):
            raise IndexError(f"patch {position} of {len(self)}")
        epoch = 0 if self.same_every_epoch else epoch
        # Fold "all" validates on the training cases; the same patches must not come up there.
        source = np.random.SeedSequence([self.seed, epoch, position, int(self.training)])
        random = np.random.RandomState(source.generate_state(4))
        name = self.cases[random.randint(len(self.cases))]
        if self._load is None:
            self._load = lru_cache(self.cached_cases)(self.prepared.load)
        item = self.patch(self._load(name), position % self.batch_size, random)
        if isinstance(self.augmentation, Randomizable):
            self.augmentation.set_random_state(seed=random.randint(2**32, dtype=np.uint32))
        return {**self.augmentation(item), "case": name}

    def patch(self, case: PreparedCase, place_in_batch: int, random: np.random.RandomState) -> dict[str, torch.Tensor]:
        """Cuts an initial patch out of a case: ``image`` is 0 and ``label`` -1 outside of it.

        Args:
            case: memory-mapped arrays (C, z, y, x) and class locations.
            place_in_batch: decides whether foreground is forced.
            random: source of the draws.
        """
        if self.probabilistic_oversampling:
            forced = random.uniform() < self.oversample_foreground
        else:
            forced = is_forced(place_in_batch, self.batch_size, self.oversample_foreground)
        centre = choose_centre(case.locations, forced, random)
        image, label = case.image, case.seg
        if len(self.patch_size) == 2:
            chosen = random.randint(image.shape[1]) if centre is None else centre[0]
            image, label = image[:, chosen], label[:, chosen]
            centre = None if centre is None else centre[1:]
        first, last = allowed_start(image.shape[1:], self.initial_patch_size, self.patch_size)
        if centre is None:
            start = [random.randint(low, high + 1) for low, high in zip(first, last, strict=True)]
        else:
            start = np.clip(centre - np.asarray(self.initial_patch_size) // 2, first, last)
        return {
            "image": torch.from_numpy(cut_patch(image, start, self.initial_patch_size, 0)),
            "label": torch.from_numpy(cut_patch(label, start, self.initial_patch_size, OUTSIDE)),
        }
