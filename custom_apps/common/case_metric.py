"""A metric that looks at all cases of an epoch together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine
from ignite.metrics import Metric

from custom_apps.common.gathering import gather_rows


class CaseMetric(Metric):
    """Metric of a MONAI evaluator that keeps one row a case; a subclass says what a row is and what follows from all.

    Each case's batch item with the output's ``pred`` goes to :meth:`row`. The evaluator's batches and outputs have to
    be lists of cases, as MONAI's ``decollate`` leaves them.

    Attributes:
        prediction: key of the output that is given as ``pred``.
    """

    prediction = "pred"

    def reset(self) -> None:
        """Forgets all cases."""
        self._rows: list[Any] = []

    def iteration_completed(self, engine: Engine) -> None:
        """Keeps the cases of an iteration."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.update({**item, "pred": output[self.prediction]})

    def update(self, output: Mapping[str, Any]) -> None:
        """Keeps one case."""
        self._rows.append(self.row(output))

    @abstractmethod
    def row(self, case: Mapping[str, Any]) -> Any:
        """What is kept of a case: small, picklable, the same from every process."""

    def rows_of_all_ranks(self) -> list[Any]:
        """Rows of all processes, rank 0's first; a case that two processes saw stands twice."""
        return gather_rows(self._rows)
