"""Volumes of a list of patients, each a function of seed, epoch and place, with or without the files kept in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from monai.utils import convert_to_tensor

from custom_apps.brain.chains import BrainVolumes
from custom_apps.brain.loading import LoadPreparedd
from custom_apps.common.item_dataset import ItemDataset, explained

CACHES = ("none", "memory")
# What an item keeps beside the images; paths are for the transforms.
NUMBERS = ("label", "fold", "idh", "codeletion", "grade")
KEYS = ("affine", "original_affine", "original_shape", "case", "patient", *NUMBERS)


class VolumeDataset(ItemDataset):
    """Volumes with four contrasts made of records by a chain of transforms.

    Items are dictionaries: ``image`` float32 (4, x, y, z), ``target`` of the same shape where the chain makes one,
    ``label`` int64 (), ``case``, ``patient``, ``affine`` float64 (4, 4), ``index`` (place in ``records``), ``epoch``,
    and ``fold``, ``idh``, ``codeletion``, ``grade`` as far as the records have them.

    Args:
        records: as from :func:`custom_apps.brain.patients.patient_records`.
        transform: a chain that begins with a `LoadPreparedd`; None for one without augmentation.
        cache: ``none`` reads files each time; ``memory`` reads all of them now (16 MB a volume of 160³ voxels, which
            forked workers share).
        seed: with epoch and index the source of every draw.

    Raises:
        ValueError: without records, or for an unknown ``cache``.
        DataError: on access, whatever goes wrong with a volume, naming its file.
    """

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        transform: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        cache: str = "none",
        seed: int = 0,
    ):
        super().__init__(records, BrainVolumes() if transform is None else transform, seed)
        if cache not in CACHES:
            raise ValueError(f"cache must be one of {', '.join(CACHES)}, got {cache!r}")
        self._kept: list[MetaTensor] = []
        if cache == "memory":
            loader = self.transform.transforms[0]
            if not isinstance(loader, LoadPreparedd):
                raise ValueError("only a chain that begins with LoadPreparedd can keep volumes")
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                self._kept = list(pool.map(lambda record: self._loaded(loader, record), self.records))
            self.transform = Compose(self.transform.transforms[1:])

    @staticmethod
    def _loaded(loader: LoadPreparedd, record: Mapping[str, Any]) -> MetaTensor:
        try:
            return loader.load(record["image"])
        except Exception as error:
            raise explained(error, record) from error

    def started(self, index: int) -> dict[str, Any]:
        """The record, with the volume already in it if volumes are kept."""
        record = super().started(index)
        return record | {"image": self._kept[index]} if self._kept else record

    def finished(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Plain tensors, and what is known about the patient."""
        kept = {key: item[key] for key in KEYS if key in item}
        for key in ("image", "target"):
            if key in item:
                kept[key] = convert_to_tensor(item[key], dtype=torch.float32, track_meta=False).contiguous()
        for key in NUMBERS:
            if key in kept:
                kept[key] = torch.tensor(int(kept[key]))
        return kept
