"""Predicted ejection fractions of videos: averages over clips, and the files they are written to."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.config import KeysCollection
from monai.transforms import MapTransform

from custom_apps.common.distributed import is_main_process, wait_for_all, world_size
from custom_apps.common.gathering import gather_rows
from custom_apps.common.partial_file import write_json
from custom_apps.common.table import write_csv
from custom_apps.echo.clip_protocols import ClipProtocols

TABLE, DETAILS = "ef.csv", "ef.json"
SAVE_EVERY = 20


class AverageClipsd(MapTransform):
    """Adds to the predictions of a video's clips what they come to: ``ef_percent_predicted`` and more.

    ``ef_percent_predicted`` is the average by the protocol with the most clips, percent; ``std_over_clips`` the
    standard deviation over all clips (NaN for one); ``protocols`` the average by each protocol; ``clip_starts`` the
    first frame of each clip; ``frames`` the length of the video.

    Args:
        keys: usually ``pred``, (clips,).
        protocols: those of the inferer.
        image_key: the video (C, frames, H, W).
        allow_missing_keys: as in MONAI.

    Raises:
        FloatingPointError: naming the video, for a prediction that is not finite.
    """

    def __init__(
        self,
        keys: KeysCollection,
        protocols: ClipProtocols,
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.protocols, self.image_key = protocols, image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Adds the averages."""
        result = dict(data)
        frames = int(result[self.image_key].shape[-3])
        for key in self.key_iterator(result):
            values = torch.as_tensor(result[key]).double().flatten().tolist()
            if not all(map(math.isfinite, values)):
                name = result.get("file_name", result.get("case", "a video"))
                raise FloatingPointError(f"a prediction for {name} is not finite; run in float32 or bfloat16")
            averages = self.protocols.averages(values, frames)
            result["ef_percent_predicted"] = averages[self.protocols.names[-1]]
            result["std_over_clips"] = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
            result["protocols"], result["frames"] = averages, frames
            result["clip_starts"] = self.protocols.starts(frames).tolist()
        return result


class SaveEF:
    """Handler that writes ``ef.csv`` (a row a video) and ``ef.json`` (with every clip) as an evaluator goes along.

    Attach it to the evaluator whose postprocessing has :class:`AverageClipsd`. Rows of earlier runs in the files are
    kept, unless told otherwise. The files are written every few videos, so that a broken run can be continued. In a
    distributed run rank 0 writes at the end.

    Args:
        output_dir: folder of the files.
        overwrite: forget what is in the files.
    """

    def __init__(self, output_dir: str | Path, overwrite: bool = False):
        self.output_dir, self.overwrite = Path(output_dir), overwrite
        self.rows: list[dict[str, Any]] = []
        self._earlier: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.STARTED, lambda: self.begin())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def begin(self) -> None:
        """Forgets the videos so far and reads the rows of earlier runs."""
        self.rows, self._earlier = [], []
        if not self.overwrite and (self.output_dir / DETAILS).is_file():
            content = json.loads((self.output_dir / DETAILS).read_text(encoding="utf-8"))
            self._earlier = [{k: math.nan if v is None else v for k, v in row.items()} for row in content["videos"]]

    def add(self, item: Mapping[str, Any]) -> None:
        """Takes one video: what :class:`AverageClipsd` gives, with ``file_name``, ``pred`` and perhaps ``fps``."""
        predictions = torch.as_tensor(item["pred"]).double().flatten().tolist()
        self.rows.append(
            {
                "file_name": str(item["file_name"]),
                "ef_percent": float(item["ef_percent_predicted"]),
                "std_over_clips": float(item["std_over_clips"]),
                "clips": len(predictions),
                **{f"ef_{name}": float(value) for name, value in item["protocols"].items()},
                "frames": int(item["frames"]),
                "fps": float(item.get("fps", math.nan)),
                "clip_starts": [int(start) for start in item["clip_starts"]],
                "clip_ef_percent": predictions,
            }
        )

    def write(self, rows: list[dict[str, Any]] | None = None) -> None:
        """Writes both files; by default with the rows so far."""
        rows = sorted([*self._earlier, *(self.rows if rows is None else rows)], key=lambda row: row["file_name"])
        if not rows:
            return
        headers = [name for name in rows[0] if not name.startswith("clip_")]
        write_csv(rows, self.output_dir / TABLE, headers)
        write_json({"videos": rows}, self.output_dir / DETAILS)

    def write_now_and_then(self, number: int) -> None:
        """Writes both files when ``number``, of the video that was just added, is a round one."""
        if number % SAVE_EVERY == 0:
            self.write()

    def _collect(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.add({**item, **output})
        if world_size() == 1:
            self.write_now_and_then(engine.state.iteration)

    def _finish(self, engine: Engine) -> None:
        rows = gather_rows(self.rows)
        if is_main_process():
            self.write(rows)
            engine.logger.info("%d videos in %s", len(rows), self.output_dir / TABLE)
        wait_for_all()
