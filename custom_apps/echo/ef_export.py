"""Predicted ejection fractions of videos: averages over clips, and the files they are written to."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from custom_apps.common.partial_file import write_json
from custom_apps.common.result_table import ResultTable
from custom_apps.common.table import write_csv
from custom_apps.echo.clip_protocols import ClipProtocols

TABLE, DETAILS = "ef.csv", "ef.json"


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


class SaveEF(ResultTable):
    """Handler that writes ``ef.csv`` (a row a video) and ``ef.json`` (with every clip) as an evaluator goes along.

    Attach it to the evaluator whose postprocessing has :class:`AverageClipsd`. For the rest see the base class.

    Args:
        output_dir: folder of the files.
        overwrite: forget what is in the files.
    """

    def __init__(self, output_dir: str | Path, overwrite: bool = False):
        super().__init__(Path(output_dir) / TABLE, overwrite)
        self.output_dir = Path(output_dir)

    def earlier_rows(self) -> list[dict[str, Any]]:
        """Rows of earlier runs, none where there is no ``ef.json``."""
        if not (self.output_dir / DETAILS).is_file():
            return []
        content = json.loads((self.output_dir / DETAILS).read_text(encoding="utf-8"))
        return [{key: math.nan if v is None else v for key, v in row.items()} for row in content["videos"]]

    def row(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """The row of a video: what :class:`AverageClipsd` gives, with ``file_name``, ``pred`` and perhaps ``fps``."""
        predictions = torch.as_tensor(case["pred"]).double().flatten().tolist()
        return {
            "file_name": str(case["file_name"]),
            "ef_percent": float(case["ef_percent_predicted"]),
            "std_over_clips": float(case["std_over_clips"]),
            "clips": len(predictions),
            **{f"ef_{name}": float(value) for name, value in case["protocols"].items()},
            "frames": int(case["frames"]),
            "fps": float(case.get("fps", math.nan)),
            "clip_starts": [int(start) for start in case["clip_starts"]],
            "clip_ef_percent": predictions,
        }

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes both files."""
        headers = [name for name in rows[0] if not name.startswith("clip_")]
        write_csv(rows, self.path, headers)
        write_json({"videos": list(rows)}, self.output_dir / DETAILS)
