"""The left ventricle over whole videos: an evaluator's masks measured, compared with tracings and written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine

from custom_apps.common.case_metric import CaseMetric
from custom_apps.common.distributed import is_main_process
from custom_apps.common.gathering import each_once
from custom_apps.common.partial_file import write_json, write_text
from custom_apps.common.statistics import RESAMPLES, Estimate
from custom_apps.common.table import markdown_table, text_table, write_csv
from custom_apps.echo.area_length import METHODS
from custom_apps.echo.ef_figures import draw_bland_altman, draw_scatter
from custom_apps.echo.ef_metrics import REDUCED_EF_PERCENT, Intervals, ef_estimates, estimates_as_json, title_of
from custom_apps.echo.lv_curve import LVCurve
from custom_apps.echo.lv_dice import PHASES, DiceTable, overlap_counts
from custom_apps.echo.lv_figures import draw_area_curves

TITLES = {"area_length": "segmented, area–length", "disks": "segmented, disks", "regressed": "regressed"}
SIZE_COLUMNS = ("Filename", "Frame", "Size", "HumanLarge", "HumanSmall", "ComputerSmall")
DRAWN_CURVES = 6


class LVTable:
    """What the masks of many videos say.

    Args:
        rows: of each video what :func:`video_row` gives. A video that comes twice counts once.
        regressed: case to ejection fraction that a regressor predicted, percent, to stand beside.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], regressed: Mapping[str, float] | None = None):
        self.rows = each_once([dict(row) for row in rows])
        self.dice = DiceTable([row for row in self.rows if row["label_frame"] is not None])
        self.reference = np.array([row["ef_percent"] for row in self.rows], np.float64)
        self.predicted = {m: np.array([row["ef"][m] for row in self.rows], np.float64) for m in METHODS}
        if regressed is not None:
            found = [regressed.get(row["case"], math.nan) for row in self.rows]
            self.predicted["regressed"] = np.array(found, np.float64)

    def pairs(self, source: str) -> tuple[np.ndarray, np.ndarray]:
        """Reported and predicted ejection fraction of the videos that have both, percent."""
        known = np.isfinite(self.reference) & np.isfinite(self.predicted[source])
        return self.reference[known], self.predicted[source][known]

    def estimates(self, intervals: Intervals) -> dict[str, dict[str, Estimate]]:
        """Source (``area_length``, ``disks``, ``regressed``) to measure to value; sources without a pair are absent."""
        pairs = {source: self.pairs(source) for source in self.predicted}
        return {
            source: ef_estimates(*pair, REDUCED_EF_PERCENT, intervals) for source, pair in pairs.items() if len(pair[0])
        }

    def video_rows(self) -> list[dict[str, Any]]:
        """A row a video."""
        return [
            {
                "file_name": row["case"],
                "ef_percent": row["ef_percent"],
                **{f"ef_{source}": float(values[number]) for source, values in self.predicted.items()},
                "beats": row["beats"],
                "heart_rate_per_minute": row["heart_rate"],
                "frames": len(row["area"]),
                "fps": row["fps"],
            }
            for number, row in enumerate(self.rows)
        ]

    def size_rows(self) -> list[dict[str, Any]]:
        """A row a frame, with EchoNet-Dynamic's columns: area in pixels, traced frames and detected systoles."""
        rows = []
        for row in self.rows:
            diastole, systole = row["label_frame"] or (None, None)
            for frame, area in enumerate(row["area"]):
                flags = (frame == diastole, frame == systole, frame in row["systoles"])
                rows.append(dict(zip(SIZE_COLUMNS, (row["case"], frame, int(area), *map(int, flags)), strict=True)))
        return rows

    def write(self, folder: str | Path, level: float = 0.95, resamples: int = RESAMPLES) -> str:
        """Writes ``size.csv``, ``videos.csv``, ``dice.csv``, ``results.md``, ``results.json`` and figures.

        Args:
            folder: made when missing; files of these names are replaced.
            level: coverage of the intervals.
            resamples: bootstrap samples of videos.

        Returns:
            The results as text for a terminal.
        """
        folder, estimates = Path(folder), self.estimates(Intervals(level, resamples))
        write_csv(self.size_rows(), folder / "size.csv", SIZE_COLUMNS)
        write_csv(self.video_rows(), folder / "videos.csv")
        draw_area_curves(self.rows[:DRAWN_CURVES], folder / "figures" / "area_curves.png")
        texts = [f"{len(self.rows)} videos; {100 * level:g} % bootstrap intervals over videos"]
        if self.dice.rows:
            texts.append(self.dice.write(folder, level, resamples))
        markdown = [f"# Left ventricle\n\n{texts[0]}."]
        if estimates:
            rows, headers = _table(estimates, self)
            texts.append(text_table(rows, headers))
            markdown.append(markdown_table(rows, headers))
            panels = {TITLES[source]: self.pairs(source) for source in estimates}
            by_title = {TITLES[source]: each for source, each in estimates.items()}
            if min(len(pair[0]) for pair in panels.values()) > 1:
                draw_scatter(panels, by_title, folder / "figures" / "scatter.png")
                draw_bland_altman(panels, by_title, folder / "figures" / "bland_altman.png")
        write_text("\n\n".join(markdown) + "\n", folder / "results.md")
        content = {source: estimates_as_json(each) for source, each in estimates.items()}
        write_json({"videos": len(self.rows), "ejection_fraction": content}, folder / "results.json")
        return "\n".join(texts)


class LVScores(CaseMetric):
    """Metric of a MONAI evaluator for masks of whole videos: areas, beats, ejection fraction, Dice where traced.

    Takes from the batch, one whole video each, ``case`` and, where known, ``fps``, ``ef_percent``, ``label`` and
    ``label_frame`` (see `custom_apps.echo.whole_video`), and from the output ``pred``, a label map (1, frames, H, W).
    Videos of all ranks are gathered, each counts once.

    Args:
        output_dir: where rank 0 writes :meth:`LVTable.write`'s files after an epoch; None writes nothing.
        regressed: see :class:`LVTable`.
        level: coverage of the intervals.
        resamples: bootstrap samples of videos.

    The value is the Dice over the traced frames, mean over videos; NaN without tracings. The :class:`LVTable` stays in
    ``table``.
    """

    def __init__(
        self,
        output_dir: str | Path | None = None,
        regressed: Mapping[str, float] | None = None,
        level: float = 0.95,
        resamples: int = RESAMPLES,
    ):
        self.output_dir, self.regressed, self.level, self.resamples = output_dir, regressed, level, resamples
        self.table: LVTable | None = None
        super().__init__()

    def row(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Measures one video."""
        return video_row(case)

    def compute(self) -> float:
        """Mean Dice, over the videos of all ranks; the same on every rank."""
        self.table = LVTable(self.rows_of_all_ranks(), self.regressed)
        dice = self.table.dice.per_video("overall")
        return float(np.nanmean(dice)) if np.isfinite(dice).any() else math.nan

    def completed(self, engine: Engine, name: str) -> None:
        """Puts the mean errors into ``engine.state.metrics`` and writes the tables."""
        super().completed(engine, name)
        for source in self.table.predicted:
            reference, predicted = self.table.pairs(source)
            engine.state.metrics[f"mae_{source}"] = (
                float(np.abs(predicted - reference).mean()) if len(reference) else math.nan
            )
        if self.output_dir is not None and is_main_process():
            engine.logger.info("%s", self.table.write(self.output_dir, self.level, self.resamples))


def video_row(output: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of one video.

    Args:
        output: ``case`` and ``pred`` (1, frames, H, W); where known ``fps``, ``ef_percent``, ``label`` (2, H, W) and
            ``label_frame`` (2,).

    Returns:
        ``case``, ``fps``, ``ef_percent`` (NaN if unknown), ``area`` of each frame, ``systoles``, ``diastoles``,
        ``beats``, ``heart_rate``, ``ef`` by method, ``label_frame`` (None if untraced), and the counts of
        :func:`custom_apps.echo.lv_dice.overlap_counts`.
    """
    masks, fps = torch.as_tensor(output["pred"])[0].cpu().numpy(), float(output.get("fps", math.nan))
    curve = LVCurve.of(masks, fps)
    traced = output.get("label_frame") is not None and output.get("label") is not None
    counts = overlap_counts(output["pred"], output["label"], output["label_frame"]) if traced else {}
    return {
        "case": str(output["case"]),
        "fps": fps,
        "ef_percent": float(output.get("ef_percent", math.nan)),
        "area": curve.area.tolist(),
        "systoles": list(curve.systoles),
        "diastoles": [beat.end_diastole for beat in curve.beats],
        "beats": len(curve.beats),
        "heart_rate": curve.heart_rate_per_minute,
        "ef": {method: curve.ef_percent(method) for method in METHODS},
        "label_frame": [int(frame) for frame in output["label_frame"]] if traced else None,
        **{phase: counts.get(phase) for phase in PHASES},
    }


def _table(estimates: Mapping[str, Mapping[str, Estimate]], table: LVTable) -> tuple[list[list[str]], list[str]]:
    measures = list(next(iter(estimates.values())))
    rows = [
        [title_of(measure), *(each[measure].brief() if measure in each else "-" for each in estimates.values())]
        for measure in measures
    ]
    rows.append(["videos", *(str(len(table.pairs(source)[0])) for source in estimates)])
    return rows, ["ejection fraction", *(TITLES[source] for source in estimates)]
