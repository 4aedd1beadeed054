import csv
import json

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from custom_apps.brain.evaluation import CrossValidationScores
from custom_apps.brain.fold_table import FoldTable
from custom_apps.brain.published_scores import published_scores

SUBSETS = {"IDH-mutant": {"idh": 1}}


def rows(cases: int = 40, folds: int = 3) -> list[dict]:
    random = np.random.default_rng(1)
    found = []
    for number in range(cases):
        label = number % 2
        logits = [0.0, float(random.normal() + 1.5 * label - 0.7)]
        found.append({"case": f"c{number:02d}", "fold": number % folds, "label": label, "idh": 1, "logits": logits})
    for row in found[:10:2]:
        row["idh"] = 0
    return found


def test_all_cases_and_each_fold_are_measured():
    everything = rows()
    table = FoldTable(everything + everything[:5])
    assert len(table.rows) == 40
    published = table.published()
    assert list(published) == ["fold 0", "fold 1", "fold 2", "mean over folds", "all cases together"]
    part = [row for row in everything if row["fold"] == 1]
    assert published["fold 1"] == published_scores([r["label"] for r in part], np.array([r["logits"] for r in part]))
    areas = [published[f"fold {fold}"]["roc_auc_score"] for fold in range(3)]
    assert published["mean over folds"]["roc_auc_score"] == pytest.approx(np.mean(areas))
    estimates = table.estimates(resamples=200)
    assert estimates["all cases"]["auroc"].value == pytest.approx(published["all cases together"]["roc_auc_score"])
    assert estimates["all cases"]["auroc"].low < estimates["all cases"]["auroc"].value


def test_probabilities_survive_extreme_logits():
    table = FoldTable([{"case": "a", "fold": 0, "label": 1, "logits": [-2000.0, 3000.0]}])
    assert table.rows[0]["probability_1"] == 1.0
    assert table.rows[0]["predicted"] == 1


def test_report_has_subsets_folds_and_out_of_fold_predictions(tmp_path):
    text = FoldTable(rows(), SUBSETS).write(tmp_path, resamples=200, class_names=["intact", "co-deleted"])
    assert "IDH-mutant" in text
    assert "mean over folds" in text
    with open(tmp_path / "out_of_fold.csv", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert list(written[0]) == ["case", "fold", "label", "probability_0", "probability_1", "predicted"]
    assert len(written) == 40
    assert all(float(r["probability_0"]) + float(r["probability_1"]) == pytest.approx(1) for r in written)
    content = json.loads((tmp_path / "folds.json").read_text())
    assert content["estimates"]["IDH-mutant"]["cases"] == 35
    assert "bootstrap" in (tmp_path / "folds.md").read_text(encoding="utf-8")
    for name in ("folds", "classification", "idh_mutant_classification"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 5000, name


def test_one_fold_and_one_class_are_no_error(tmp_path):
    only = [row | {"label": 0} for row in rows(12) if row["fold"] == 0]
    assert "AUROC nan" in FoldTable(only, SUBSETS).write(tmp_path, resamples=50)
    assert not (tmp_path / "idh_mutant_results.md").exists()


def evaluate(metric: CrossValidationScores, cases: list[dict]) -> Engine:
    engine = Engine(lambda _engine, batch: [{"pred": item["pred"]} for item in batch])
    metric.attach(engine, "auroc")
    items = [{**row, "pred": torch.tensor(row["logits"])} for row in cases]
    engine.run([items[i : i + 3] for i in range(0, len(items), 3)])
    return engine


def test_metric_of_an_engine(tmp_path):
    metric = CrossValidationScores(tmp_path, SUBSETS, resamples=50)
    metrics = evaluate(metric, rows()).state.metrics
    published = FoldTable(rows()).published()
    assert metrics["auroc"] == pytest.approx(published["all cases together"]["roc_auc_score"])
    assert metrics["auroc_fold_mean"] == pytest.approx(published["mean over folds"]["roc_auc_score"])
    assert metrics["accuracy"] == pytest.approx(published["all cases together"]["acc1"] / 100)
    assert (tmp_path / "folds.md").is_file()


def test_predictions_that_are_no_two_finite_logits_are_refused():
    broken = rows()[:1]
    with pytest.raises(FloatingPointError, match="c00"):
        evaluate(CrossValidationScores(), [broken[0] | {"logits": [0.0, float("nan")]}])
    with pytest.raises(ValueError, match="two classes"):
        evaluate(CrossValidationScores(), [broken[0] | {"logits": [0.0]}])
