"""Clips of a list of videos, with or without the decoded videos kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from monai.utils import convert_to_tensor

from custom_apps.common.errors import DataError
from custom_apps.common.item_dataset import ItemDataset
from custom_apps.common.partial_file import partial_file
from custom_apps.echo.loading import LoadVideod

CACHES = ("none", "memory", "disk")
# What an item keeps; everything else of a record is for the transforms.
KEYS = ("image", "label", "label_frame", "ef_percent", "case", "fps", "frame_size", "frame_indices", "real_frames")


class ClipDataset(ItemDataset):
    """Clips made of records by a chain of transforms.

    Item ``(epoch, index, turn)`` is always the same clip with the same augmentation, in whatever worker or process it
    is made, so that a resumed run continues exactly. ``turn`` counts how often the sampler has come to the same video
    within an epoch; a plain index means turn 0 of :meth:`set_epoch`'s epoch.

    Items are dictionaries: ``image`` float32 (C, L, H, W) or (k, C, L, H, W), ``ef_percent`` float32 (1,), ``case``,
    ``index`` (place in ``records``), ``epoch``, and what the transforms add: ``label``, ``label_frame``,
    ``frame_indices``, ``real_frames``. A number in ``label`` (class of a video) becomes float32 (1,).

    Args:
        records: dictionaries with ``image``, a path, and ``case``.
        transform: a MONAI ``Compose`` whose first transform is a `LoadVideod`; Randomizable ones are seeded here.
        cache: what to do with decoded frames: ``none`` decodes anew each time; ``memory`` decodes all of them now
            (38 kB a frame of 112×112 in RGB, 13 kB in gray; forked workers share them); ``disk`` keeps them in files of
            the same size, which are read without decoding.
        seed: with epoch, index and turn the source of every draw.
        cache_dir: folder of the files for ``disk``. They are named by path, size and date of the video, so that a
            changed video is decoded again.

    Raises:
        DataError: on access, whatever goes wrong with a video, naming its file.
    """

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        transform: Callable[[dict[str, Any]], dict[str, Any]],
        cache: str = "none",
        seed: int = 0,
        cache_dir: str | Path | None = None,
    ):
        super().__init__(records, transform, seed)
        if cache not in CACHES:
            raise ValueError(f"cache must be one of {', '.join(CACHES)}, got {cache!r}")
        self.cache, self.cache_dir = cache, None if cache_dir is None else Path(cache_dir)
        self.loader = self.transform.transforms[0]
        self._kept: list[tuple[torch.Tensor, float]] = []
        if cache != "none":
            if not isinstance(self.loader, LoadVideod):
                raise ValueError("only a chain that begins with LoadVideod can keep decoded videos")
            self.transform = Compose(self.transform.transforms[1:])
        if cache == "disk" and cache_dir is None:
            raise ValueError("cache 'disk' needs a cache_dir")
        if cache == "memory":
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                self._kept = list(pool.map(self._decoded, range(len(self.records))))

    def started(self, index: int) -> dict[str, Any]:
        """The record, with the decoded video already in it if videos are kept."""
        record = super().started(index)
        if self.cache == "none":
            return record
        frames, fps = self._kept[index] if self._kept else self._from_disk(record)
        record["image"] = frames
        record.setdefault("fps", fps)
        return record

    def finished(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """What the network and its loss need, as plain tensors."""
        kept = {key: item[key] for key in KEYS if key in item}
        kept["image"] = convert_to_tensor(kept["image"], dtype=torch.float32, track_meta=False).contiguous()
        for key in ("ef_percent", "label"):
            if isinstance(kept.get(key), (int, float)):
                kept[key] = torch.tensor([kept[key]], dtype=torch.float32)
        return kept

    def _decoded(self, index: int) -> tuple[torch.Tensor, float]:
        frames, fps = self.loader.load(self.records[index]["image"])
        return self.loader.channels_first(frames), fps

    def _from_disk(self, record: Mapping[str, Any]) -> tuple[torch.Tensor, float]:
        video = Path(record["image"])
        if not video.is_file():
            raise DataError(video, "no such file", "a video")
        facts = video.stat()
        gray = getattr(self.loader, "gray", False)
        identity = f"{video.resolve()}|{facts.st_size}|{facts.st_mtime_ns}|{type(self.loader).__name__}|{gray}"
        path = self.cache_dir / f"{video.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.npz"
        if not path.is_file():
            frames, fps = self.loader.load(record["image"])
            with partial_file(path) as temporary:
                np.savez(temporary, frames=frames, fps=fps)
        with np.load(path) as content:
            return self.loader.channels_first(content["frames"]), float(content["fps"])
