"""A beating left ventricle in the plane: bullet-shaped cavity, wall of constant volume, known ejection fraction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from custom_apps.echo.tracings import TracedPair, Tracing

CHORDS = 20
# Longer than the volume stays near its minimum, shorter than a beat.
SYSTOLE_FRAMES = 8


def bullet(s: np.ndarray) -> np.ndarray:
    """Half width of the cavity, in units of that at the base, at a share ``s`` of the way from apex (0) to base (1)."""
    return np.sqrt(np.clip(s * (2 - s), 0, None)) * (1.12 - 0.12 * s)


@dataclass(frozen=True)
class Beat:
    """Filling of the ventricle over one heart cycle.

    Attributes:
        systole: share of the cycle from end-diastole to end-systole.
        diastasis: filling between the early and the atrial wave, from 0 (empty) to 1 (full).
    """

    systole: float = 0.36
    diastasis: float = 0.74

    def filling(self, phase: np.ndarray) -> np.ndarray:
        """From 1 at end-diastole (phase 0) to 0 at end-systole and back; phases of any number of cycles."""
        es, level = self.systole, self.diastasis
        times = [0, 0.05, es / 2 + 0.02, es, es + 0.05, es + 0.17, es + 0.27, 0.88, 0.97, 1]
        values = [1, 0.985, 0.48, 0, 0.02, level - 0.12, level, level + 0.02, 0.985, 1]
        return PchipInterpolator(times, values)(np.asarray(phase) % 1)

    def valve_opening(self, phase: np.ndarray) -> np.ndarray:
        """Mitral valve from 0 (closed, in systole) to 1: wide in early filling, again when the atrium contracts."""
        es = self.systole
        times = [0, es + 0.04, es + 0.12, es + 0.28, 0.84, 0.92, 1]
        return PchipInterpolator(times, [0, 0, 1, 0.35, 0.3, 0.75, 0])(np.asarray(phase) % 1)


@dataclass(frozen=True)
class Ventricle:
    """Shape and place of the ventricle in every frame; lengths in pixels.

    Attributes:
        length: (F,) from apex to mitral plane.
        half_width: (F,) of the cavity at its base.
        outer_half_width: (F,) of cavity and wall.
        apex: (F, 2) x, y of the cavity's apex.
        tilt: angle in radians between the long axis and the downward direction, to the right.
        valve_opening: (F,) of the mitral valve, from 0 to 1.
        mm_per_pixel: edge of a pixel.
    """

    length: np.ndarray
    half_width: np.ndarray
    outer_half_width: np.ndarray
    apex: np.ndarray
    tilt: float
    valve_opening: np.ndarray
    mm_per_pixel: float

    @property
    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors x, y along the long axis (to the base) and across it (to the right)."""
        along = np.array([np.sin(self.tilt), np.cos(self.tilt)])
        return along, np.array([along[1], -along[0]])

    def tracing(self, frame: int) -> Tracing:
        """Long axis and 20 chords from apex to base, as a reader of EchoNet-Dynamic would trace them."""
        along, across = self.axes
        share = (np.arange(CHORDS) + 0.5) / CHORDS
        centers = self.apex[frame] + share[:, None] * self.length[frame] * along
        reach = (self.half_width[frame] * bullet(share))[:, None] * across
        axis = np.concatenate([self.apex[frame], self.apex[frame] + self.length[frame] * along])
        chords = np.concatenate([centers - reach, centers + reach], axis=1)
        return Tracing(frame, np.concatenate([axis[None], chords]).astype(np.float32))

    def volume_ml(self, frame: int) -> float:
        """Volume of the cavity by the method of discs, from the chords of :meth:`tracing`."""
        share = (np.arange(CHORDS) + 0.5) / CHORDS
        radii_mm = self.half_width[frame] * bullet(share) * self.mm_per_pixel
        return float(np.pi * (radii_mm**2).mean() * self.length[frame] * self.mm_per_pixel / 1000)

    def traced_pair(self) -> TracedPair:
        """The frame of largest volume, and that of smallest volume in the same beat, before or after it."""
        volumes = np.array([self.volume_ml(frame) for frame in range(len(self.length))])
        full = int(volumes.argmax())
        empty = np.flatnonzero(volumes <= volumes.min() + 0.02 * np.ptp(volumes))
        nearest = empty[np.abs(empty - full).argmin()]
        beat = empty[np.abs(empty - nearest) <= SYSTOLE_FRAMES]
        return TracedPair(self.tracing(full), self.tracing(int(beat[volumes[beat].argmin()])))


def beating_ventricle(
    random: np.random.Generator, ef_percent: float, frames: int, fps: float, size: int, phase: float | None = None
) -> Ventricle:
    """Draws a ventricle that has about the given ejection fraction.

    Weak hearts are drawn large. The cavity shortens and narrows so that its volume falls by ``ef_percent``; the wall
    thickens so that its volume stays; the apex hardly moves. What the frames at hand show exactly is told by
    :meth:`Ventricle.volume_ml`.

    Args:
        random: source of every draw.
        ef_percent: ejection fraction between the extremes of the cycle.
        frames: number of frames.
        fps: frames per second.
        size: edge of the frames in pixels.
        phase: where in the cycle the first frame is, 0 for end-diastole; drawn when None.
    """
    ejected = ef_percent / 100
    mm_per_pixel = random.uniform(138, 172) / size
    length = (86 + 12 * (0.55 - ejected) + random.normal(0, 4)) / mm_per_pixel
    half_width = (23.5 + 11 * (0.55 - ejected) + random.normal(0, 1.3)) / mm_per_pixel
    wall = random.uniform(8.5, 11.5) / mm_per_pixel
    beat = Beat(random.uniform(0.33, 0.39), random.uniform(0.68, 0.78))
    start = random.uniform() if phase is None else phase
    phases = start + np.arange(frames) / fps * random.uniform(52, 92) / 60
    empty = 1 - beat.filling(phases)

    shortened = 1 - 0.28 * ejected
    # Interpolated so that the volume, not the width, follows the filling.
    lengths = length * (1 + (shortened - 1) * empty)
    widths = half_width * np.sqrt((1 - ejected * empty) * length / lengths)
    outer = np.sqrt(widths**2 + ((half_width + wall) ** 2 - half_width**2) * length / lengths)

    tilt = random.normal(0, 0.09)
    apex = size * np.array([random.uniform(0.46, 0.56), random.uniform(0.17, 0.23)])
    breathing = np.sin(2 * np.pi * (np.arange(frames) / fps * random.uniform(0.2, 0.3) + random.uniform()))
    along = np.array([np.sin(tilt), np.cos(tilt)])
    # The apex comes down a little in systole; most of the shortening is at the base.
    apexes = apex + (0.12 * (length - lengths))[:, None] * along + breathing[:, None] * random.normal(0, 0.7, 2)
    return Ventricle(lengths, widths, outer, apexes, tilt, beat.valve_opening(phases), mm_per_pixel)
