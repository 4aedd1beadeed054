"""Beats of the heart from the area of the left ventricle over time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from custom_apps.echo.area_length import ejection_fraction_percent

SHORTEST_BEAT_FRAMES = 20
TRIMMED_SHARE = 0.05
PROMINENCE = 0.5
FILLED = 0.75


@dataclass(frozen=True)
class Beat:
    """One beat: the frame of largest and that of smallest area."""

    end_diastole: int
    end_systole: int


def find_systoles(area: np.ndarray, shortest_beat_frames: float = SHORTEST_BEAT_FRAMES) -> list[int]:
    """Frames of end-systole: clear minima of the area.

    Args:
        area: of the ventricle in each frame, any unit.
        shortest_beat_frames: least distance between two systoles; 20 frames are 0.4 s at 50 frames a second.

    A minimum counts when it is deeper than its surroundings by half the range of the area without its lowest and
    highest twentieth. A minimum at the first or last frame is none.

    Source: EchoNet-Dynamic, Ouyang et al. 2020. Deviation: the published code takes the frames of rank n ** 0.05 and
    n ** 0.95 as ends of the trimmed range, where n * 0.05 and n * 0.95 are meant.
    """
    from scipy.signal import find_peaks

    values = np.asarray(area, np.float64)
    low, high = _trimmed_range(values)
    if len(values) < 3 or high <= low:
        return []
    peaks, _ = find_peaks(-values, distance=max(1, shortest_beat_frames), prominence=PROMINENCE * (high - low))
    return peaks.tolist()


def find_beats(area: np.ndarray, shortest_beat_frames: float = SHORTEST_BEAT_FRAMES) -> list[Beat]:
    """Each systole with the diastole before it: the largest area since the systole before, or since the start.

    When the video begins while the ventricle empties, the first systole lacks its diastole and is left out, unless it
    is the only one; then the largest area of the whole video is its diastole.
    """
    systoles, values = find_systoles(area, shortest_beat_frames), np.asarray(area, np.float64)
    beats = [
        Beat(begin + int(values[begin:end].argmax()), end) for begin, end in zip([0, *systoles], systoles, strict=False)
    ]
    if not beats:
        return []
    low, high = _trimmed_range(values)
    if values[beats[0].end_diastole] >= low + FILLED * (high - low):
        return beats
    return beats[1:] or [Beat(int(values.argmax()), systoles[0])]


def _trimmed_range(values: np.ndarray) -> tuple[float, float]:
    """Smallest and largest value without the outer twentieths."""
    if not len(values):
        return 0.0, 0.0
    ordered = np.sort(values)
    low, high = (
        ordered[min(int(len(values) * share), len(values) - 1)] for share in (TRIMMED_SHARE, 1 - TRIMMED_SHARE)
    )
    return float(low), float(high)


def ejection_fraction_of_beats(volume: np.ndarray, beats: list[Beat]) -> float:
    """Mean over beats of the ejection fraction, percent; NaN without a beat.

    Args:
        volume: of the ventricle in each frame, any unit.
        beats: see :func:`find_beats`.
    """
    values = [ejection_fraction_percent(volume[beat.end_diastole], volume[beat.end_systole]) for beat in beats]
    return float(np.mean(values)) if values else math.nan
