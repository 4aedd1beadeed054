"""Foreground intensities drawn with replacement, kept as counts of distinct values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SEED = 1234
CHUNK = 1 << 22


@dataclass(frozen=True)
class IntensityCounts:
    """A multiset of intensities. A hundred million draws from integer-valued images take a few thousand entries.

    Attributes:
        values: distinct intensities, ascending, float64.
        counts: how often each was drawn.
    """

    values: np.ndarray
    counts: np.ndarray

    @property
    def total(self) -> int:
        """Number of draws."""
        return int(self.counts.sum())

    @classmethod
    def of(cls, values: np.ndarray, counts: np.ndarray) -> IntensityCounts:
        """Counts from values that may repeat."""
        distinct, position = np.unique(values.astype(np.float64), return_inverse=True)
        summed = np.bincount(position, weights=counts, minlength=len(distinct)).astype(np.int64)
        return cls(distinct[summed > 0], summed[summed > 0])

    @classmethod
    def merge(cls, parts: Sequence[IntensityCounts]) -> IntensityCounts:
        """All draws together."""
        return cls.of(np.concatenate([part.values for part in parts]), np.concatenate([part.counts for part in parts]))

    def percentile(self, q: float) -> float:
        """Percentile of the draws with linear interpolation, as ``numpy.percentile`` of the spelled-out multiset."""
        position = q / 100 * (self.total - 1)
        below = int(np.floor(position))
        upto = np.cumsum(self.counts)
        low, high = (
            self.values[np.searchsorted(upto, index, side="right")] for index in (below, min(below + 1, self.total - 1))
        )
        return float(low + (high - low) * (position - below))

    def statistics(self) -> dict[str, float]:
        """The statistics that a fingerprint holds."""
        mean = float(np.average(self.values, weights=self.counts))
        return {
            "max": float(self.values[-1]),
            "mean": mean,
            "median": self.percentile(50),
            "min": float(self.values[0]),
            "percentile_00_5": self.percentile(0.5),
            "percentile_99_5": self.percentile(99.5),
            "std": float(np.sqrt(np.average((self.values - mean) ** 2, weights=self.counts))),
        }


def sample_foreground(image: np.ndarray, foreground: np.ndarray, samples: int) -> list[IntensityCounts]:
    """Draws foreground intensities of each channel with replacement (nnU-Net, Isensee et al. 2021).

    The draws are those of one ``RandomState(1234)`` for the case, channel after channel; they are made in pieces, which
    leaves the random stream as it is and needs little memory.

    Args:
        image: (C, z, y, x).
        foreground: boolean (z, y, x).
        samples: draws per channel.

    Returns:
        For each channel its draws; none without foreground.
    """
    random = np.random.RandomState(SEED)
    result = []
    for channel in image:
        values = channel[foreground]
        counts = np.zeros(len(values), dtype=np.int64)
        if len(values):
            for start in range(0, samples, CHUNK):
                drawn = random.randint(0, len(values), size=min(CHUNK, samples - start))
                counts += np.bincount(drawn, minlength=len(values))
        result.append(IntensityCounts.of(values, counts))
    return result
