"""Ejection fraction of whole videos: an evaluator's predictions gathered, averaged, measured and written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine

from custom_apps.common.case_metric import CaseMetric
from custom_apps.common.distributed import is_main_process
from custom_apps.common.gathering import each_once
from custom_apps.common.statistics import Estimate
from custom_apps.echo.clip_protocols import ClipProtocols, beat_by_beat
from custom_apps.echo.ef_metrics import DEFAULT_INTERVALS, REDUCED_EF_PERCENT, Intervals, ef_estimates

BEAT_BY_BEAT = "beat_by_beat"
LOGGED = ("mae", "rmse", "r2", "bias")


class EFTable:
    """Predictions of all clips of all videos, and what follows from them.

    Args:
        rows: of each video ``case``, ``ef_percent`` (reported), ``frames`` and ``predictions``, a list in the order of
            ``protocols.starts(frames)``. A video that comes twice counts once.
        protocols: which clips were predicted.
        systoles: case to frames of end-systole; with it the clips before each systole are a protocol of their own,
            ``beat_by_beat``. Videos without a usable beat have no number there.
        lead_frames: between the start of such a clip and its systole.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        protocols: ClipProtocols,
        systoles: Mapping[str, Sequence[int]] | None = None,
        lead_frames: int = 32,
    ):
        self.protocols, self.rows = protocols, each_once([dict(row) for row in rows])
        self.names = [*protocols.names, *([BEAT_BY_BEAT] if systoles is not None else [])]
        self.reference = np.array([row["ef_percent"] for row in self.rows], np.float64)
        averages = [protocols.averages(row["predictions"], row["frames"]) for row in self.rows]
        for row, average in zip(self.rows, averages, strict=True):
            if systoles is not None:
                starts = protocols.starts(row["frames"])
                beats = systoles.get(row["case"], ())
                missed = (protocols.stride or 1) // 2
                average[BEAT_BY_BEAT] = beat_by_beat(starts, row["predictions"], beats, lead_frames, missed)
        self.predicted = {name: np.array([average[name] for average in averages], np.float64) for name in self.names}

    def title(self, name: str) -> str:
        """A protocol's name for a table."""
        return "clips before each systole" if name == BEAT_BY_BEAT else self.protocols.title(name)

    @property
    def cases(self) -> list[str]:
        """Names of the videos, sorted."""
        return [row["case"] for row in self.rows]

    @property
    def best_covered(self) -> str:
        """The protocol with the most clips, which figures show."""
        return self.protocols.names[-1]

    def spread(self) -> np.ndarray:
        """Standard deviation of the predictions over the clips of each video; NaN for a single clip."""
        return np.array(
            [np.std(row["predictions"], ddof=1) if len(row["predictions"]) > 1 else math.nan for row in self.rows]
        )

    def pairs(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Reported and predicted ejection fraction by a protocol, of the videos that have both."""
        known = np.isfinite(self.predicted[name])
        return self.reference[known], self.predicted[name][known]

    def estimates(
        self, reduced_ef_percent: Sequence[float] = REDUCED_EF_PERCENT, intervals: Intervals = DEFAULT_INTERVALS
    ) -> dict[str, dict[str, Estimate]]:
        """Protocol to measure to value with interval."""
        return {name: ef_estimates(*self.pairs(name), reduced_ef_percent, intervals) for name in self.names}

    def video_rows(self) -> list[dict[str, Any]]:
        """A row a video: file name, reported value, each protocol's prediction, number of clips, spread."""
        spread = self.spread()
        return [
            {
                "file_name": row["case"],
                "ef_percent": float(self.reference[number]),
                **{name: float(self.predicted[name][number]) for name in self.names},
                "clips": len(row["predictions"]),
                "std_over_clips": float(spread[number]),
            }
            for number, row in enumerate(self.rows)
        ]

    def clip_rows(self) -> list[tuple[str, int, float]]:
        """A row a clip: case, first frame, prediction."""
        return [
            (row["case"], int(start), float(value))
            for row in self.rows
            for start, value in zip(self.protocols.starts(row["frames"]), row["predictions"], strict=True)
        ]


class EFScores(CaseMetric):
    """Metric of a MONAI evaluator that measures ejection fractions of whole videos.

    Takes from the batch, one whole video each, ``image`` (1, C, frames, H, W), ``ef_percent`` and ``case``, and from
    the output the predictions of its clips, as :class:`~custom_apps.echo.clip_protocols.ClipInferer` makes them.
    Videos of all ranks are gathered, each counts once, so the value is that of a single process.

    Args:
        protocols: the inferer's.
        measure: the metric's value, by the protocol with the most clips; any of `custom_apps.echo.ef_metrics`.
        report: writes the results on rank 0 after an epoch; None writes nothing.
        systoles: see :class:`EFTable`.

    MAE, RMSE, R² and bias are put into ``engine.state.metrics`` as ``<measure>_<protocol>``; the :class:`EFTable` stays
    in ``table``.
    """

    def __init__(
        self,
        protocols: ClipProtocols,
        measure: str = "mae",
        report: Any | None = None,
        systoles: Mapping[str, Sequence[int]] | None = None,
    ):
        self.protocols, self.measure, self.report, self.systoles = protocols, measure, report, systoles
        self.table: EFTable | None = None
        self._estimates: dict[str, dict[str, Estimate]] = {}
        super().__init__()

    def row(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """What is kept of one video.

        Args:
            case: ``case``, ``ef_percent``, ``image`` (C, frames, H, W) and ``pred``, the predictions (clips,).

        Raises:
            FloatingPointError: naming the case, for a prediction that is not finite.
        """
        predictions = [float(value) for value in case["pred"].flatten()]
        if not all(map(math.isfinite, predictions)):
            raise FloatingPointError(f"a prediction for {case['case']} is not finite; run in float32 or bfloat16")
        return {
            "case": str(case["case"]),
            "ef_percent": float(case["ef_percent"]),
            "frames": int(case["image"].shape[-3]),
            "predictions": predictions,
        }

    def compute(self) -> float:
        """The measure by the protocol with the most clips, over the videos of all ranks; the same on every rank."""
        self.table = EFTable(self.rows_of_all_ranks(), self.protocols, self.systoles)
        report = self.report
        self._estimates = self.table.estimates() if report is None else report.estimates(self.table)
        return self._estimates[self.table.best_covered][self.measure].value

    def completed(self, engine: Engine, name: str) -> None:
        """Puts the main values into ``engine.state.metrics`` and writes the report."""
        super().completed(engine, name)
        for protocol, estimates in self._estimates.items():
            engine.state.metrics |= {f"{name}_{protocol}": estimates[name].value for name in LOGGED}
        if self.report is not None and is_main_process():
            engine.logger.info("%s", self.report.write(self.table, self._estimates))
