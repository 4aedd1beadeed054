"""The area of the left ventricle over time, with what was detected and traced."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_apps.common.figures import PALETTE, figure

PER_ROW = 2
AREA, DIASTOLE, SYSTOLE, TRACED = "#444444", PALETTE[0], PALETTE[1], PALETTE[2]


def draw_area_curves(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """A panel for each video: area of every frame, detected diastoles and systoles, traced frames as vertical lines.

    Args:
        rows: of `custom_apps.echo.lv_evaluation.video_row`, at least one.
        path: the figure.

    The time axis is in seconds where the frame rate is known, else in frames.
    """
    columns = min(PER_ROW, len(rows))
    with figure(path, math.ceil(len(rows) / columns), columns, width=5.2, height=2.2) as (drawn, grid):
        for axes, row in zip(grid.flat, rows, strict=False):
            known = math.isfinite(row["fps"]) and row["fps"] > 0
            step = 1 / row["fps"] if known else 1.0
            area = row["area"]
            axes.plot([step * frame for frame in range(len(area))], area, color=AREA, linewidth=1.2, zorder=2)
            for key, colour, marker, label in (
                ("diastoles", DIASTOLE, "^", "end-diastole"),
                ("systoles", SYSTOLE, "v", "end-systole"),
            ):
                frames = row[key]
                places = [step * frame for frame in frames], [area[frame] for frame in frames]
                axes.scatter(*places, color=colour, marker=marker, s=36, zorder=3, label=f"detected {label}")
            for number, frame in enumerate(row["label_frame"] or ()):
                label = None if number else "traced frames"
                axes.axvline(step * frame, color=TRACED, linewidth=1, linestyle=":", zorder=1, label=label)
            axes.set(xlabel="time [s]" if known else "frame", ylabel="area [pixels]")
            axes.set_ylim(0, 1.1 * max(1, *area))
            axes.set_title(_title(row))
        for axes in list(grid.flat)[len(rows) :]:
            axes.remove()
        handles, labels = grid.flat[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=3)


def _title(row: Mapping[str, Any]) -> str:
    parts = [row["case"]]
    if math.isfinite(row["ef"]["area_length"]):
        parts.append(f"EF {row['ef']['area_length']:.0f} %")
    if math.isfinite(row["ef_percent"]):
        parts.append(f"reported {row['ef_percent']:.0f} %")
    if math.isfinite(row["heart_rate"]):
        parts.append(f"{row['heart_rate']:.0f}/min")
    return ", ".join(parts)
