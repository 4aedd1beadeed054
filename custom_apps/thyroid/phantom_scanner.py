"""What a linear probe shows of tissue: speckle, attenuation with its shadows, noise and log compression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

PIXEL_MM = 0.1


@dataclass
class Tissue:
    """A cross-section on a grid of 0.1 mm.

    Attributes:
        echo_db: strength of the echoes (H, W), decibels.
        loss_db_per_mm: weakening of the beam, there and back, (H, W).
    """

    echo_db: np.ndarray
    loss_db_per_mm: np.ndarray

    @property
    def depth_mm(self) -> np.ndarray:
        """Depth of each row's middle (H, 1)."""
        return ((np.arange(self.echo_db.shape[0], dtype=np.float32) + 0.5) * PIXEL_MM)[:, None]

    @property
    def place_mm(self) -> np.ndarray:
        """Place of each column's middle along the probe (W,)."""
        return (np.arange(self.echo_db.shape[1], dtype=np.float32) + 0.5) * PIXEL_MM

    def paint(self, share: np.ndarray, echo_db: float | np.ndarray, loss_db_per_mm: float | None = None) -> None:
        """Replaces tissue where ``share`` is 1, blends where it lies between 0 and 1."""
        self.echo_db += share * (echo_db - self.echo_db)
        if loss_db_per_mm is not None:
            self.loss_db_per_mm += share * (loss_db_per_mm - self.loss_db_per_mm)


@dataclass(frozen=True)
class Scanner:
    """Settings of a machine.

    Attributes:
        gain_db: added to all echoes.
        range_db: from black to white.
        noise_db: level of the noise at the surface, before compensation of depth.
        compensation_db_per_mm: gain with depth.
        axial_mm: width of an echo along the beam.
        lateral_mm: width across, at the focus.
        focus_mm: depth of the focus.
        smoothing: of the picture, in grid steps, from averaging several directions.
    """

    gain_db: float
    range_db: float
    noise_db: float
    compensation_db_per_mm: float
    axial_mm: float
    lateral_mm: float
    focus_mm: float
    smoothing: float

    @classmethod
    def drawn(cls, random: np.random.Generator) -> Scanner:
        """Settings with the spread of a clinic's machines."""
        return cls(
            gain_db=random.normal(-1, 2),
            range_db=random.uniform(54, 62),
            noise_db=random.uniform(-72, -64),
            compensation_db_per_mm=random.normal(0.76, 0.03),
            axial_mm=random.uniform(0.09, 0.13),
            lateral_mm=random.uniform(0.20, 0.28),
            focus_mm=random.uniform(14, 24),
            smoothing=random.uniform(0.9, 1.3),
        )


def scan(tissue: Tissue, scanner: Scanner, random: np.random.Generator) -> np.ndarray:
    """Picture of a cross-section, gray from 0 to 1, (H, W)."""
    shape = tissue.echo_db.shape
    depth = tissue.depth_mm
    # The beam is some lines wide, which softens the edges of shadows.
    loss = gaussian_filter(tissue.loss_db_per_mm, (0, 4), mode="nearest")
    lost_db = np.cumsum(loss, axis=0) * PIXEL_MM
    strength_db = tissue.echo_db - lost_db + scanner.compensation_db_per_mm * depth
    scatterers = random.standard_normal((2, *shape), np.float32) * 10 ** (strength_db / 20)
    # Away from the focus the beam is wider; two widths, blended by depth, come close enough.
    near, wide = (_seen(scatterers, scanner.axial_mm, scanner.lateral_mm * factor) for factor in (1.0, 2.0))
    share = np.clip(np.abs(depth - scanner.focus_mm) / 25, 0, 1)
    field = np.sqrt(1 - share) * near + np.sqrt(share) * wide
    noise_db = scanner.noise_db + scanner.compensation_db_per_mm * depth
    noise = (
        gaussian_filter(random.standard_normal((2, *shape), np.float32), (0, 0.8, 0.8)) * 2.8 * 10 ** (noise_db / 20)
    )
    power = ((field + noise) ** 2).sum(0)
    shown_db = 10 * np.log10(power + 1e-12) + scanner.gain_db
    return np.clip(1 + gaussian_filter(shown_db / scanner.range_db, scanner.smoothing), 0, 1)


def _seen(scatterers: np.ndarray, axial_mm: float, lateral_mm: float) -> np.ndarray:
    """Echoes of neighboring scatterers added up, with mean power kept."""
    sigmas = (axial_mm / PIXEL_MM, lateral_mm / PIXEL_MM)
    # A Gaussian filter keeps the share 1 / (4 pi sigma sigma) of the power of white noise.
    return gaussian_filter(scatterers, (0, *sigmas), mode="nearest") * np.sqrt(4 * np.pi * sigmas[0] * sigmas[1])
