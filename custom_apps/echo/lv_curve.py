"""The left ventricle of a video over time: area, volume, beats, ejection fraction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from custom_apps.echo.area_length import METHODS, measure_ventricle
from custom_apps.echo.beat_detection import Beat, ejection_fraction_of_beats, find_beats, find_systoles

SHORTEST_BEAT_SECONDS = 0.4
USUAL_FPS = 50.0


@dataclass(frozen=True)
class LVCurve:
    """What the masks of a video say.

    Attributes:
        area: pixels of the ventricle in each frame.
        volumes: of each frame, in pixels cubed, by method; see `custom_apps.echo.area_length.Ventricle.volume`.
        systoles: frames of end-systole.
        beats: those of them with a diastole.
        fps: frames per second, NaN if unknown.
    """

    area: np.ndarray
    volumes: Mapping[str, np.ndarray]
    systoles: tuple[int, ...]
    beats: tuple[Beat, ...]
    fps: float = math.nan

    @classmethod
    def of(
        cls, masks: np.ndarray, fps: float = math.nan, shortest_beat_seconds: float = SHORTEST_BEAT_SECONDS
    ) -> LVCurve:
        """Measures every frame.

        Args:
            masks: (frames, H, W), non-zero inside of the ventricle. Pixels are taken to be square.
            fps: frames per second; where unknown, the 50 of most of EchoNet-Dynamic are assumed.
            shortest_beat_seconds: least time between two systoles.
        """
        ventricles = [measure_ventricle(mask) for mask in masks]
        area = np.array([ventricle.area for ventricle in ventricles])
        volumes = {method: np.array([ventricle.volume(method) for ventricle in ventricles]) for method in METHODS}
        shortest = max(1.0, shortest_beat_seconds * (fps if math.isfinite(fps) and fps > 0 else USUAL_FPS))
        return cls(area, volumes, tuple(find_systoles(area, shortest)), tuple(find_beats(area, shortest)), fps)

    def ef_percent(self, method: str = "area_length") -> float:
        """Ejection fraction from the volumes by a method, mean over beats; NaN without a beat."""
        return ejection_fraction_of_beats(self.volumes[method], list(self.beats))

    @property
    def heart_rate_per_minute(self) -> float:
        """From the median distance of the systoles; NaN with fewer than two, or an unknown frame rate."""
        if len(self.systoles) < 2:
            return math.nan
        return float(60 * self.fps / np.median(np.diff(self.systoles)))
