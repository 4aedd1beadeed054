"""Which patients a pre-training learns from, and on which its error is followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WATCHED_SHARE = 0.05


@dataclass(frozen=True)
class PretrainingSplit:
    """Records of a pre-training.

    Attributes:
        train: to learn from.
        held_out: to measure the error on.
    """

    train: list[dict[str, Any]]
    held_out: list[dict[str, Any]]


def pretraining_split(records: Sequence[Mapping[str, Any]], held_out_share: float, seed: int = 0) -> PretrainingSplit:
    """Puts a share of the patients aside, at least one.

    Args:
        records: with ``case`` and ``patient``; all examinations of a patient stay together.
        held_out_share: of the patients. With 0 all are trained on, as published, and the error is followed on a
            twentieth of them: it then says nothing about other patients.
        seed: of the choice.

    Raises:
        ValueError: for a share outside of [0, 1), or too few patients to put any aside.
    """
    if not 0 <= held_out_share < 1:
        raise ValueError(f"held_out_share must be in [0, 1), got {held_out_share}")
    patients = sorted({record["patient"] for record in records})
    count = max(1, round((held_out_share or WATCHED_SHARE) * len(patients)))
    if held_out_share and count >= len(patients):
        raise ValueError(f"{len(patients)} patients are too few to hold {count} of them out")
    chosen = set(np.random.default_rng(seed).permutation(patients)[:count].tolist())
    watched = [dict(record) for record in records if record["patient"] in chosen]
    rest = [dict(record) for record in records if not held_out_share or record["patient"] not in chosen]
    return PretrainingSplit(rest, watched)
