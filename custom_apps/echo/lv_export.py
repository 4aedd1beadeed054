"""Masks of the left ventricle as files: NIfTI, overlay video, contact sheet, table."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events

from custom_apps.common.distributed import is_main_process, wait_for_all
from custom_apps.common.gathering import gather_rows
from custom_apps.common.partial_file import partial_file
from custom_apps.common.table import write_csv
from custom_apps.echo.lv_evaluation import video_row
from custom_apps.echo.lv_figures import draw_area_curves
from custom_apps.echo.lv_video import draw_contact_sheet, to_gray_levels, write_overlay_video

ENDINGS = {"masks": "_lv.nii.gz", "video": "_lv.avi", "sheet": "_lv.png", "curve": "_lv_area.png"}


class SaveLV:
    """Handler of an evaluator that writes what a segmenter found in whole videos.

    Takes from the batch ``image`` (1, frames, H, W), normalized, ``case`` and, where known, ``fps`` and ``frame_size``
    (height, width) of the file; from the output ``pred``, a label map (1, frames, H, W). Files are replaced: whether
    there are earlier ones is a matter of the list of videos.

    Args:
        output_dir: folder of the files, made when missing.
        mean: of the gray values from 0 to 1, that the normalization subtracted.
        std: that it divided by.
        kinds: what to write of each video: ``masks`` (``{case}_lv.nii.gz``, uint8, axes column, row, frame, in the size
            of the file's frames), ``video`` (overlay, side by side with the original), ``sheet`` (sixteen frames),
            ``curve`` (area over time).
        limit: number of videos that are written, the first ones of this process; None for all.
        table: name of a CSV in the folder with a row a video: beats, heart rate, ejection fraction by method, largest
            and smallest area in pixels of the network's frames. Rows of other videos in it stay. None writes none.
    """

    def __init__(
        self,
        output_dir: str | Path,
        mean: float,
        std: float,
        kinds: Sequence[str] = ("masks", "video", "curve"),
        limit: int | None = None,
        table: str | None = None,
    ):
        if unknown := [kind for kind in kinds if kind not in ENDINGS]:
            raise ValueError(f"kinds are {', '.join(ENDINGS)}, got {unknown[0]!r}")
        self.output_dir, self.mean, self.std = Path(output_dir), mean, std
        self.kinds, self.limit, self.table = tuple(kinds), limit, table
        self._written = 0
        self._rows: list[dict[str, Any]] = []

    @staticmethod
    def endings(kinds: Sequence[str]) -> list[str]:
        """Endings of the files that these kinds make, for the list of videos."""
        return [ENDINGS[kind] for kind in kinds]

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.STARTED, lambda: self._rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        if self.table is not None:
            engine.add_event_handler(Events.COMPLETED, lambda: self.write_table())

    def __call__(self, engine: Engine) -> None:
        """Writes the files of an iteration's videos."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if self.limit is None or self._written < self.limit:
                self.write({**item, "pred": output["pred"]})
                self._written += 1

    def write(self, item: Mapping[str, Any]) -> None:
        """Writes the files of one video."""
        masks, fps = torch.as_tensor(item["pred"])[0].to(torch.uint8), float(item.get("fps", math.nan))
        gray, case = to_gray_levels(item["image"], self.mean, self.std), str(item["case"])
        paths = {kind: self.output_dir / f"{case}{ENDINGS[kind]}" for kind in self.kinds}
        if "masks" in paths:
            size = item.get("frame_size")
            write_mask(paths["masks"], masks if size is None else resize_masks(masks, [int(s) for s in size]), fps)
        if "video" in paths:
            write_overlay_video(paths["video"], gray, masks.cpu().numpy(), fps)
        if "sheet" in paths:
            draw_contact_sheet(paths["sheet"], gray, masks.cpu().numpy(), heading=case)
        row = video_row(item) if self.table is not None or "curve" in paths else None
        if "curve" in paths:
            draw_area_curves([row], paths["curve"])
        if self.table is not None:
            self._rows.append(
                {
                    "file_name": str(item.get("file_name", case)),
                    "frames": len(row["area"]),
                    "fps": fps,
                    "beats": row["beats"],
                    "heart_rate_per_minute": row["heart_rate"],
                    **{f"ef_{method}": value for method, value in row["ef"].items()},
                    "largest_area": max(row["area"]),
                    "smallest_area": min(row["area"]),
                }
            )

    def write_table(self) -> None:
        """Writes the table of all videos so far; a collective call."""
        rows, path = gather_rows(self._rows), self.output_dir / self.table
        if is_main_process() and rows:
            new = {row["file_name"] for row in rows}
            earlier: list[dict[str, Any]] = []
            if path.is_file():
                with open(path, newline="", encoding="utf-8") as file:
                    earlier = [row for row in csv.DictReader(file) if row["file_name"] not in new]
            write_csv(sorted([*earlier, *rows], key=lambda row: row["file_name"]), path, list(rows[0]))
        wait_for_all()


def resize_masks(masks: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Masks (frames, H, W) in another size, uint8, with smooth borders.

    Args:
        masks: 0 and 1.
        size: height and width.
    """
    if tuple(masks.shape[1:]) == tuple(size):
        return masks
    share = F.interpolate(masks[:, None].float(), tuple(size), mode="bilinear", antialias=True)[:, 0]
    return (share >= 0.5).to(torch.uint8)


def write_mask(path: str | Path, masks: torch.Tensor | np.ndarray, fps: float = math.nan) -> None:
    """Writes masks (frames, H, W) as NIfTI with axes column, row, frame.

    Args:
        path: the file, replaced when it exists.
        masks: 0 and 1.
        fps: frames per second, for the third voxel size (seconds); 1 where unknown. A pixel's size is not known, so the
            first two are 1.
    """
    import nibabel

    array = np.asarray(masks, np.uint8).transpose(2, 1, 0)
    image = nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 1 / fps if fps > 0 else 1.0, 1.0]))
    with partial_file(path, ".nii.gz") as temporary:
        nibabel.save(image, temporary)
