"""Metrics of a whole epoch that are no averages over batches, such as R² or the area under a curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from custom_apps.common.gathering import gather_rows


class GatheredMetric:
    """Gathers values of every case over the epoch and over processes, and measures them together.

    For ``key_val_metric`` and ``additional_metrics`` of MONAI's engines, whose output must be decollated. Each case
    counts once, also when a distributed sampler repeats it.

    Args:
        measure: function of one array for each key, cases along the first axis, that returns a number. Values of one
            element are given as arrays of one axis.
        keys: keys of the engine's output, such as reference and prediction.
        index: key of the batch with the number of the case.
        transform: applied to every value of a case, such as a choice among several outputs.
    """

    def __init__(
        self,
        measure: Callable[..., float],
        keys: Sequence[str] = ("label", "pred"),
        index: str = "index",
        transform: Callable[[Any], Any] | None = None,
    ):
        self.measure, self.keys, self.index = measure, tuple(keys), index
        self.transform = transform or (lambda value: value)
        self._values: dict[int, tuple[np.ndarray, ...]] = {}

    def attach(self, engine: Engine, name: str) -> None:
        """Registers the metric under a name in ``engine.state.metrics``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report, name)

    def reset(self, _engine: Engine | None = None) -> None:
        """Forgets all cases."""
        self._values = {}

    def update(self, engine: Engine) -> None:
        """Takes the cases of a batch."""
        for batch, output in zip(engine.state.batch, engine.state.output, strict=True):
            self._values[int(batch[self.index])] = tuple(_array(self.transform(output[key])) for key in self.keys)

    def compute(self) -> float:
        """The measure of all cases of all processes."""
        values = dict(gather_rows(list(self._values.items())))
        columns = [np.stack([values[index][i] for index in sorted(values)]) for i in range(len(self.keys))]
        return float(self.measure(*(column[:, 0] if column.shape[1:] == (1,) else column for column in columns)))

    def _report(self, engine: Engine, name: str) -> None:
        engine.state.metrics[name] = self.compute()


def _array(value: Any) -> np.ndarray:
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    return array.reshape(1) if array.size == 1 else array
