import csv
import math

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator

from custom_apps.common.class_probabilities import SaveProbabilities


def run(path, logits: dict[str, float], **options) -> list[dict[str, str]]:
    items = [{"image": torch.tensor([value]), "file_name": name} for name, value in logits.items()]
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=2),
        network=torch.nn.Identity(),
        val_handlers=[SaveProbabilities(path, ("benign", "malignant"), **options)],
    )
    engine.run()
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_row_a_case(tmp_path):
    rows = run(tmp_path / "out" / "classes.csv", {"b.mp4": 0.3, "a.mp4": -2.0, "c.mp4": 5.0})
    assert [row["file_name"] for row in rows] == ["a.mp4", "b.mp4", "c.mp4"]
    assert [row["class"] for row in rows] == ["benign", "malignant", "malignant"]
    assert float(rows[1]["probability"]) == pytest.approx(1 / (1 + math.exp(-0.3)))
    assert run(tmp_path / "x.csv", {"b.mp4": 0.3}, threshold=0.6)[0]["class"] == "benign"


def test_earlier_rows_are_kept_or_forgotten(tmp_path):
    path = tmp_path / "classes.csv"
    first = run(path, {"b.mp4": 0.3})
    assert run(path, {"a.mp4": 1.0})[1:] == first
    assert [row["file_name"] for row in run(path, {"c.mp4": 1.0}, overwrite=True)] == ["c.mp4"]


def test_a_logit_that_is_not_finite_is_an_error(tmp_path):
    with pytest.raises(FloatingPointError, match=r"b\.mp4"):
        run(tmp_path / "classes.csv", {"b.mp4": math.inf})
