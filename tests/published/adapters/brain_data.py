"""Data arithmetic of 3D Mamba MAE: intensities and folds. The adapter of the whole recipe calls these."""

from __future__ import annotations

import torch

from custom_apps.brain.folds import folds
from custom_apps.brain.normalization import scaled_to_unit, standardized
from tests.published.vector import Vector, assert_output


def check_intensities(vector: Vector) -> set[str]:
    """Compares both normalizations of a volume of gray values; gives the names of what was compared."""
    volume = vector.tensors["in/volume_uint8"]
    assert_output("zscore", standardized(volume), vector.tensors["out/zscore"], atol=1e-5)
    assert_output("minmax", scaled_to_unit(volume), vector.tensors["out/minmax"], atol=1e-6)
    return {"out/zscore", "out/minmax"}


def check_folds(vector: Vector) -> set[str]:
    """Compares the fold of every case under the published protocol; gives the names of what was compared."""
    options = vector.config["kfold"]
    assert options["shuffle"], "the published protocol shuffles"
    labels = vector.tensors["in/fold_labels"].tolist()
    records = [{"case": index, "patient": str(index), "label": label} for index, label in enumerate(labels)]
    fold_of = torch.full((len(labels),), -1)
    for number, fold in enumerate(folds(records, options["n_splits"], options["random_state"], published=True)):
        fold_of[[record["case"] for record in fold.test]] = number
    assert_output("fold_of", fold_of, vector.tensors["out/fold_of"], atol=0)
    return {"out/fold_of"}
