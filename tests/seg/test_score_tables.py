import csv
import json
import math

import numpy as np
import pytest

from custom_apps.seg.protocol import SegmentationProtocol
from custom_apps.seg.score_tables import ScoreTables

LABELS = {"labels": {"background": 0, "liver": 1, "spleen": 2}}


def row(case, label, dice, **counts):
    ids = (1,) if label == "liver" else (2,)
    counts = {"tp": 1, "fp": 2, "fn": 3, "tn": 4, "n_pred": 3, "n_ref": 4} | counts
    return {"case": case, "label": label, "ids": ids, "dice": dice, "iou": dice / 2} | counts


ROWS = [
    row("b", "spleen", float("nan")),
    row("b", "liver", 0.5),
    row("a", "liver", 0.9, tp=9),
    row("a", "spleen", 0.7),
    row("c", "liver", 1.0),
    row("c", "spleen", 0.3),
]


def tables(rows=ROWS, **options):
    return ScoreTables(rows, SegmentationProtocol(LABELS, **options))


def test_values_and_order_of_averaging():
    found = tables()
    assert found.cases == ["a", "b", "c"]
    assert found.values("dice", "liver").tolist() == [0.9, 0.5, 1.0]
    assert found.values("dice") == pytest.approx([0.8, 0.5, 0.65])
    assert found.mean("dice") == pytest.approx((0.8 + 0.5) / 2)
    assert tables(average="cases").mean("dice") == pytest.approx((0.8 + 0.5 + 0.65) / 3)


def test_a_case_that_comes_twice_counts_once():
    assert tables(ROWS + ROWS[:2]).values("dice", "liver").tolist() == [0.9, 0.5, 1.0]


def test_estimates_state_the_number_of_cases():
    found = {(label, measure): (estimate, infinite) for label, measure, estimate, infinite in tables().estimates()}
    spleen, _ = found["spleen", "dice"]
    assert (spleen.cases, spleen.value) == (2, 0.5)
    assert found["mean", "dice"][0].value == pytest.approx((0.8 + 0.5 + 0.65) / 3)
    liver, _ = found["liver", "dice"]
    assert liver.low <= liver.value <= liver.high
    assert liver.std == pytest.approx(np.std([0.9, 0.5, 1.0], ddof=1))


def test_infinite_distances_are_counted_apart():
    rows = [{**r, "hd95_mm": math.inf if r["case"] == "b" else 2.0} for r in ROWS]
    found = tables(rows, measures=("hd95_mm",))
    assert found.mean("hd95_mm") == 2.0
    by_label = {label: (estimate, infinite) for label, _, estimate, infinite in found.estimates()}
    assert (by_label["liver"][0].cases, by_label["liver"][1]) == (2, 1)


def test_the_summary_is_that_of_nnunet():
    summary = tables().summary({"a": ("pred/a.nii.gz", "ref/a.nii.gz")})
    assert set(summary["foreground_mean"]) == {"Dice", "IoU", "TP", "FP", "FN", "TN", "n_pred", "n_ref"}
    assert summary["foreground_mean"]["Dice"] == pytest.approx(0.65)
    assert summary["mean"]["1"]["Dice"] == pytest.approx(0.8)
    assert summary["mean"]["2"]["TP"] == 1
    first = summary["metric_per_case"][0]
    assert (first["case"], first["prediction_file"]) == ("a", "pred/a.nii.gz")
    assert first["metrics"]["1"]["TP"] == 9
    assert math.isnan(summary["metric_per_case"][1]["metrics"]["2"]["Dice"])


def test_files(tmp_path):
    tables().write(tmp_path / "scores")
    assert sorted(p.name for p in (tmp_path / "scores").iterdir()) == [
        "cases.csv",
        "structures.csv",
        "structures.md",
        "summary.json",
    ]
    with open(tmp_path / "scores" / "cases.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["case"] for r in rows] == ["a", "b", "c"]
    assert (rows[1]["dice liver"], rows[1]["dice spleen"], rows[1]["dice mean"]) == ("0.5", "", "0.5")
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert summary["metric_per_case"][1]["metrics"]["2"]["Dice"] is None
    assert "3 cases" in (tmp_path / "scores" / "structures.md").read_text(encoding="utf-8")
    assert "nnU-Net convention" in tables().text()


def test_nothing_scored_is_no_crash():
    assert math.isnan(tables([]).mean("dice"))
    assert "0 cases" in tables([]).text()
