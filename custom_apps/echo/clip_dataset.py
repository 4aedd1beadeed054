"""Clips of a list of videos, each a function of seed, epoch and place, with or without the decoded videos kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, Randomizable
from monai.utils import convert_to_tensor
from torch.utils.data import Dataset

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import partial_file
from custom_apps.echo.loading import LoadVideod

CACHES = ("none", "memory", "disk")
# What an item keeps; everything else of a record is for the transforms.
KEYS = ("image", "label", "label_frame", "ef_percent", "case", "fps", "frame_size", "frame_indices", "real_frames")


class ClipDataset(Dataset):
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
        cache_dir: folder of the files for ``disk``. They are named by path, size and date of the video, so that a
            changed video is decoded again.
        seed: with epoch, index and turn the source of every draw.

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
        if not records:
            raise ValueError("no video to take clips from")
        if cache not in CACHES:
            raise ValueError(f"cache must be one of {', '.join(CACHES)}, got {cache!r}")
        self.records, self.seed, self.epoch, self.cache = list(records), int(seed), 0, cache
        self.transform = transform if isinstance(transform, Compose) else Compose([transform])
        self.loader = self.transform.transforms[0]
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
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

    def __len__(self) -> int:
        return len(self.records)

    def set_epoch(self, epoch: int) -> None:
        """Epoch of items asked for by a plain index; a sampler that knows the epoch asks for all three."""
        self.epoch = int(epoch)

    def __getitem__(self, index: int | tuple[int, int, int]) -> dict[str, Any]:
        epoch, index, turn = index if isinstance(index, tuple) else (self.epoch, index, 0)
        if not 0 <= index < len(self):
            raise IndexError(f"video {index} of {len(self)}")
        record = self.records[index]
        if isinstance(self.transform, Randomizable):
            source = np.random.SeedSequence([self.seed, epoch, index, turn])
            self.transform.set_random_state(seed=int(source.generate_state(1)[0]))
        try:
            item = self.transform(self._loaded(index))
        except Exception as error:
            raise _explained(error, record) from error
        return _item(item, index, epoch)

    def __getitems__(self, indices: Sequence[int | tuple[int, int, int]]) -> list[dict[str, Any]] | DataError:
        """A batch's items, or the error that one of them raised.

        Errors of a worker process arrive as mere text unless they are handed over as what they are.
        """
        try:
            return [self[index] for index in indices]
        except DataError as error:
            return error

    def _loaded(self, index: int) -> dict[str, Any]:
        """The record, with the video already in it if videos are kept."""
        record = dict(self.records[index])
        if self.cache == "none":
            return record
        frames, fps = self._kept[index] if self._kept else self._from_disk(record)
        record["image"] = frames
        record.setdefault("fps", fps)
        return record

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


def _item(item: Mapping[str, Any], index: int, epoch: int) -> dict[str, Any]:
    kept = {key: item[key] for key in KEYS if key in item} | {"index": index, "epoch": epoch}
    kept["image"] = convert_to_tensor(kept["image"], dtype=torch.float32, track_meta=False).contiguous()
    for key in ("ef_percent", "label"):
        if isinstance(kept.get(key), (int, float)):
            kept[key] = torch.tensor([kept[key]], dtype=torch.float32)
    return kept


def _explained(error: Exception, record: Mapping[str, Any]) -> DataError:
    """The error about the data below what transforms wrapped around it; any other error as one about this video."""
    cause: BaseException | None = error
    last: BaseException = error
    while cause is not None:
        if isinstance(cause, DataError):
            if cause.path == str(record.get("case")):
                return DataError(record["image"], cause.problem, cause.expected)
            return cause
        last, cause = cause, cause.__cause__ or cause.__context__
    return DataError(record["image"], f"cannot be turned into a clip ({type(last).__name__}: {last})")
