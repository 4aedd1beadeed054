"""Pre-training of a segmentation network as an autoencoder: which images, and which network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from custom_apps.seg.experiment import Experiment
from custom_apps.seg.network import build_network
from custom_apps.seg.raw_dataset import RawDataset
from custom_apps.seg.unlabeled import WithoutLabels, image_pool


def held_out_images(names: Sequence[str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Splits images by lot into those to train on and those to validate on, at least one each.

    Args:
        names: at least two.
        share: of images to validate on, above 0 and below 1.
        seed: of the lot.

    Raises:
        ValueError: for fewer images, or another share.
    """
    if len(names) < 2 or not 0 < share < 1:
        raise ValueError(f"cannot hold {share} of {len(names)} images out: at least two, and a share between 0 and 1")
    number = min(max(1, round(share * len(names))), len(names) - 1)
    order = np.random.RandomState(seed).permutation(len(names))
    names = sorted(names)
    return sorted(names[i] for i in order[number:]), sorted(names[i] for i in order[:number])


class PretrainingExperiment(Experiment):
    """An experiment on all images of a data set, and a network that restores them.

    Labels serve planning alone. Without ``labelsTr`` the plan follows from the images.

    Args:
        args, kwargs: of :class:`~custom_apps.seg.experiment.Experiment`; the fold does not matter.
        folders: folders of further images, see :func:`~custom_apps.seg.unlabeled.image_pool`.
        validation_share: share of the images held out for validation.
        all_data: train on those, too.
        seed: of the lot that holds them out.

    Attributes:
        pool: all images.
        train_cases, val_cases: their names in the pool.
    """

    def __init__(
        self,
        *args: Any,
        folders: Sequence[str] | None = None,
        validation_share: float = 0.1,
        all_data: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs | {"fold": "all"})
        dataset_dir = kwargs.get("dataset_dir", args[0] if args else None)
        self.pool = image_pool(Path(dataset_dir), self.prepared, folders, self.prepared.cases)
        self.train_cases, self.val_cases = held_out_images(self.pool.cases, validation_share, seed)
        if all_data:
            self.train_cases = self.pool.cases

    def dataset(self, dataset_dir: str | Path) -> RawDataset:
        """Reader of the raw data set, with labels or without."""
        labeled = (Path(dataset_dir) / "labelsTr").is_dir() or "dataset" in RawDataset(dataset_dir).description
        return RawDataset(dataset_dir) if labeled else WithoutLabels(dataset_dir)

    def network(self, deep_supervision: bool = False) -> nn.Module:
        """The segmentation network with fresh weights and, in place of classes, the channels of the image."""
        channels = self.model(".").in_channels
        return build_network(self.configuration, channels, channels, deep_supervision)
