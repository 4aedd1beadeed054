"""Images of a list of records, each a function of seed, epoch and place, with or without the files kept in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from monai.transforms import Compose
from monai.utils import convert_to_tensor

from custom_apps.common.item_dataset import ItemDataset, explained
from custom_apps.thyroid.blur import Blurd
from custom_apps.thyroid.loading import CopyTargetd, LoadImaged, LoadMaskd

CACHES = ("none", "memory")
KEPT = ("image", "target", "label", "case", "original_size")


class ImageDataset(ItemDataset):
    """Images made of records by a chain of transforms.

    Items are dictionaries: ``image`` float32 (3, H, W), ``case``, ``original_size`` int64 (2,), height and width of the
    file's image, ``index`` (place in ``records``), ``epoch``, and, where the chain or the record has them, ``target``
    float32 (3, H, W) and ``label``: a class, int64 (), or a map of classes, int64 (H, W), 255 for pixels to ignore.

    Args:
        records: of `custom_apps.thyroid.records`.
        transform: a chain of `custom_apps.thyroid.chains`.
        cache: ``none`` reads and blurs files each time; ``memory`` does it now, once (0.3 MB an image of 412×337 with
            its mask), unless the blur is drawn anew each time. Forked workers share them.
        seed: with epoch, index and turn the source of every draw.

    Raises:
        ValueError: without records, or for an unknown ``cache``.
        DataError: on access, whatever goes wrong with an image, naming its file.
    """

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        transform: Callable[[dict[str, Any]], dict[str, Any]],
        cache: str = "none",
        seed: int = 0,
    ):
        super().__init__(records, transform, seed)
        if cache not in CACHES:
            raise ValueError(f"cache must be one of {', '.join(CACHES)}, got {cache!r}")
        self._kept: list[dict[str, Any]] = []
        if cache == "memory":
            steps, first = list(self.transform.transforms), []
            while steps and _same_every_time(steps[0]):
                first.append(steps.pop(0))
            # One that does nothing takes the place of the blur, so that the draws of what follows stay the same.
            steps = [Blurd(step.keys, None) for step in first if isinstance(step, Blurd)] + steps
            first = Compose(first)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                self._kept = list(pool.map(lambda record: _loaded(first, record), self.records))
            self.transform = Compose(steps)

    def started(self, index: int) -> dict[str, Any]:
        """The record, with image and mask already in it if they are kept."""
        return dict(self._kept[index]) if self._kept else super().started(index)

    def finished(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """What the network and its loss need, as plain tensors."""
        kept = {key: item[key] for key in KEPT if key in item}
        for key in ("image", "target"):
            if key in kept:
                kept[key] = convert_to_tensor(kept[key], dtype=torch.float32, track_meta=False).contiguous()
        kept["original_size"] = torch.tensor(kept["original_size"], dtype=torch.int64)
        if "label" in kept:
            label = convert_to_tensor(kept["label"], dtype=torch.int64, track_meta=False)
            kept["label"] = label[0].contiguous() if label.ndim == 3 else label
        return kept


def _same_every_time(step: Callable[..., Any]) -> bool:
    return isinstance(step, (LoadImaged, LoadMaskd, CopyTargetd)) or (isinstance(step, Blurd) and step.deterministic)


def _loaded(chain: Compose, record: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return chain(dict(record))
    except Exception as error:
        raise explained(error, record) from error
