"""Predicted class probabilities of cases, written as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from custom_apps.common.classification_evaluation import probability_of_class_1
from custom_apps.common.result_table import ResultTable


class SaveProbabilities(ResultTable):
    """Handler of an evaluator that writes a row a case: name, probability of class 1, class at a threshold.

    Args:
        path: the table.
        class_names: of class 0 and 1.
        threshold: a case is called class 1 from this probability on.
        logit: takes the logit or logits out of ``pred``, for networks with several outputs.
        name_key: key of the batch with the name of the case.
        overwrite: forget what is in the table.
    """

    def __init__(
        self,
        path: str | Path,
        class_names: Sequence[str] = ("0", "1"),
        threshold: float = 0.5,
        logit: Callable[[Any], torch.Tensor] | None = None,
        name_key: str = "file_name",
        overwrite: bool = False,
    ):
        super().__init__(path, overwrite)
        self.class_names, self.threshold = tuple(class_names), threshold
        self.logit, self.name_key = logit, name_key

    def row(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """The row of a case, by its name and ``pred``.

        Raises:
            FloatingPointError: naming the case, for a logit that is not finite.
        """
        logit = case["pred"] if self.logit is None else self.logit(case["pred"])
        if not torch.isfinite(logit).all():
            raise FloatingPointError(f"a prediction for {case[self.name_key]} is not finite; run in float32")
        probability = probability_of_class_1(logit)
        called = self.class_names[int(probability >= self.threshold)]
        return {"file_name": str(case[self.name_key]), "probability": probability, "class": called}
