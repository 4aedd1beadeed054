"""Scores of an evaluator's predictions, case by case, over all ranks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine
from ignite.metrics import Metric

from custom_apps.common.distributed import is_main_process
from custom_apps.common.gathering import gather_rows
from custom_apps.seg.protocol import SegmentationProtocol
from custom_apps.seg.score_tables import Row, ScoreTables


class SegmentationScores(Metric):
    """Metric of a MONAI evaluator that scores whole cases in the geometry of their files.

    Takes from each item of the evaluator's output the label maps ``pred`` and ``label``, and from the batch ``case``
    and ``properties`` (JSON text with ``spacing``), as the case transforms of this room leave them. Rows of all ranks
    are gathered and a case that several ranks saw counts once, so the value is that of a single process.

    Args:
        protocol: measures and conventions.
        measure: the one whose mean is the metric's value, by default the protocol's first.
        output_dir: where rank 0 writes :meth:`ScoreTables.write`'s files after an epoch; nothing is written without it.
        pred_key: key of the predicted label map, shape (1, z, y, x).
        label_key: key of the reference, same shape.

    The value is NaN when every structure of every case is absent. Further means are put into ``engine.state.metrics``
    as ``val_<measure>_<label>``, and :class:`ScoreTables` stays in ``tables``.
    """

    def __init__(
        self,
        protocol: SegmentationProtocol,
        measure: str | None = None,
        output_dir: str | Path | None = None,
        pred_key: str = "pred",
        label_key: str = "label",
    ):
        self.protocol = protocol
        self.measure = protocol.measures[0] if measure is None else measure
        if self.measure not in protocol.measures:
            raise ValueError(f"measure {self.measure!r} is not among the protocol's {protocol.measures}")
        self.output_dir, self.pred_key, self.label_key = output_dir, pred_key, label_key
        self.tables: ScoreTables | None = None
        super().__init__()

    def reset(self) -> None:
        """Forgets all cases."""
        self._rows: list[Row] = []

    def iteration_completed(self, engine: Engine) -> None:
        """Scores the cases of an iteration."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.update({**item, **output})

    def update(self, output: Mapping[str, Any]) -> None:
        """Scores one case.

        Args:
            output: item with the two label maps, ``case`` and ``properties``.

        Raises:
            ValueError: if a key is missing or the maps differ in shape.
        """
        if missing := [key for key in (self.pred_key, self.label_key, "case", "properties") if output.get(key) is None]:
            raise ValueError(f"cannot score an item without {', '.join(missing)}")
        prediction, reference = (_label_map(output[key]) for key in (self.pred_key, self.label_key))
        spacing_mm = json.loads(output["properties"])["spacing"]
        self._rows += self.protocol.score(prediction, reference, spacing_mm, output["case"])

    def compute(self) -> float:
        """Mean of ``measure`` over the cases of all ranks; the same number on every rank."""
        self.tables = ScoreTables(gather_rows(self._rows), self.protocol)
        return self.tables.mean(self.measure)

    def completed(self, engine: Engine, name: str) -> None:
        """Puts the means into ``engine.state.metrics`` and writes the tables."""
        super().completed(engine, name)
        for structure in self.protocol.structures:
            for measure in self.protocol.measures:
                values = self.tables.values(measure, structure.name)
                finite = values[np.isfinite(values)]
                value = float(finite.mean()) if len(finite) else float("nan")
                engine.state.metrics[f"val_{measure}_{structure.name}"] = value
        if self.output_dir is not None and is_main_process():
            self.tables.write(self.output_dir)
            engine.logger.info(
                "scores of %d cases in %s\n%s", len(self.tables.cases), self.output_dir, self.tables.text()
            )


def _label_map(tensor: Any) -> np.ndarray:
    """Array (z, y, x) of a label map (1, z, y, x)."""
    array = tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)
    if array.ndim != 4 or len(array) != 1:
        raise ValueError(f"expected a label map (1, z, y, x), got shape {array.shape}")
    return array[0]
