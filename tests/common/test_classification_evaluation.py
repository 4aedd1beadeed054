import csv
import json
import math

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn

from custom_apps.common.classification_evaluation import (
    ClassificationScores,
    ClassificationTable,
    probability_of_class_1,
)


@pytest.fixture
def rows() -> list[dict]:
    random = np.random.default_rng(0)
    labels = [0, 1] * 15
    return [
        {
            "case": f"c{number:02d}",
            "label": label,
            "probability": float(np.clip(random.normal(0.4 + 0.2 * label, 0.2), 0, 1)),
        }
        for number, label in enumerate(labels)
    ]


def test_thresholds_side_by_side(rows):
    table = ClassificationTable([*rows, rows[3]], threshold=0.3)
    assert len(table.rows) == 30
    assert list(table.thresholds.values()) == [0.5, 0.3, table.youden]
    estimates = table.estimates(resamples=100)
    at_half, given, best = estimates.values()
    assert (
        best["sensitivity"].value + best["specificity"].value
        >= at_half["sensitivity"].value + at_half["specificity"].value
    )
    assert given["sensitivity"].value >= at_half["sensitivity"].value
    assert at_half["auroc"] == given["auroc"]


def test_files(rows, tmp_path):
    table = ClassificationTable(rows)
    assert "30 cases, 15 of class 1" in table.write(tmp_path, resamples=100, class_names=("benign", "malignant"))
    with open(tmp_path / "cases.csv", encoding="utf-8") as file:
        assert list(csv.DictReader(file))[2] == {key: str(value) for key, value in rows[2].items()}
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["youden_threshold"] == table.youden
    expected = roc_auc_score(table.labels, table.probabilities)
    assert results["thresholds"]["threshold 0.5"]["auroc"]["value"] == pytest.approx(expected)
    assert "optimistic" in (tmp_path / "results.md").read_text(encoding="utf-8")
    with Image.open(tmp_path / "figures" / "classification.png") as image:
        assert image.width > 3 * image.height


def test_intervals_over_patients(rows, tmp_path):
    grouped = [row | {"group": f"p{number // 6}"} for number, row in enumerate(rows)]
    table = ClassificationTable(grouped)
    assert "over 5 groups" in table.write(tmp_path, resamples=100)
    assert (tmp_path / "cases.csv").read_text().startswith("case,group,label,probability\nc00,p0,0,")
    apart, together = (
        ClassificationTable(r).estimates(resamples=200)["threshold 0.5"]["auroc"] for r in (rows, grouped)
    )
    assert apart.value == together.value
    assert (apart.low, apart.high) != (together.low, together.high)


def test_one_class_only(tmp_path):
    rows = [{"case": name, "label": 1, "probability": p} for name, p in (("a", 0.3), ("b", 0.8))]
    text = ClassificationTable(rows).write(tmp_path, resamples=50)
    assert "Youden threshold" not in text
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["thresholds"]["threshold 0.5"]["auroc"]["value"] is None
    assert results["thresholds"]["threshold 0.5"]["sensitivity"]["value"] == 0.5


def test_nothing_beats_chance(tmp_path):
    rows = [{"case": "a", "label": 1, "probability": 0.1}, {"case": "b", "label": 0, "probability": 0.9}]
    table = ClassificationTable(rows)
    assert table.youden == math.inf
    assert "Youden threshold inf" in table.write(tmp_path, resamples=50)


def test_probabilities_of_logits():
    assert probability_of_class_1(torch.tensor([0.7])) == pytest.approx(1 / (1 + math.exp(-0.7)))
    two = torch.tensor([-0.4, 1.1])
    assert probability_of_class_1(two) == pytest.approx(float(two.double().softmax(0)[1]))
    with pytest.raises(ValueError, match="3"):
        probability_of_class_1(torch.zeros(3))


class TwoOutputs(nn.Module):
    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return image.mean((1, 2))[:, None], image[:, 0, :, None]


def run(metric: ClassificationScores, images: torch.Tensor, labels: list[int]) -> SupervisedEvaluator:
    items = [
        {"image": image, "label": torch.tensor([float(label)]), "case": f"c{number}"}
        for number, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=2),
        network=TwoOutputs(),
        key_val_metric={"auc": metric},
    )
    engine.run()
    return engine


@pytest.mark.parametrize(("part", "axis"), [(0, (1, 2)), (1, 1)])
def test_in_an_evaluator_with_several_outputs(part, axis, tmp_path):
    images, labels = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0)), [0, 1, 1, 0, 0, 1, 0]
    metric = ClassificationScores(
        logit=lambda pred: pred[part].mean(), output_dir=tmp_path, prefix="frames_", resamples=20
    )
    engine = run(metric, images, labels)
    scores = images.mean(axis) if part == 0 else images[:, 0].mean(1)
    assert engine.state.metrics["auc"] == pytest.approx(roc_auc_score(labels, scores))
    assert engine.state.metrics["frames_auprc"] == pytest.approx(average_precision_score(labels, scores))
    assert (tmp_path / "frames_results.md").is_file()


def test_a_logit_that_is_not_finite_is_an_error():
    with pytest.raises(FloatingPointError, match="c1"):
        run(ClassificationScores(logit=lambda pred: pred[0]), torch.tensor([1.0, math.nan])[:, None, None], [0, 1])


def test_unknown_measure():
    with pytest.raises(ValueError, match="auroc"):
        ClassificationScores("kappa")
