import csv

import numpy as np
import pytest

from custom_apps.seg.click_curve import ClickCurve
from custom_apps.seg.protocol import SegmentationProtocol
from tests.seg.click_phantom import BallNetwork, click_model
from tests.seg.model_phantom import label_map, write_case


@pytest.fixture
def curve(tmp_path):
    phantom = click_model(spacing=(2.0, 1.0, 1.0), patch_size=(8, 16, 16))
    cases = []
    for number in range(3):
        path = write_case(tmp_path, f"case_{number}", label_map((10, 26, 28), seed=number))
        label = tmp_path / "labelsTs" / f"case_{number}.nii.gz"
        cases.append({"case": f"case_{number}", "image": [str(path)], "label": str(label)})
    protocol = SegmentationProtocol(phantom.labels)
    return ClickCurve(cases, phantom, BallNetwork(), protocol, tmp_path / "out", counts=(0, 1, 4))


def test_dice_rises_with_clicks_that_paint(curve, tmp_path):
    rows = curve.run()
    assert len(rows) == 3 * 3 * 2
    with open(tmp_path / "out" / "click_curve.csv", newline="") as file:
        table = [row for row in csv.DictReader(file) if row["label"] == "mean"]
    assert [row["clicks"] for row in table] == ["0", "1", "4"]
    assert all(row["cases"] == "3" for row in table)
    dice = [float(row["mean"]) for row in table]
    assert dice[0] == 0
    assert dice[0] < dice[1] < dice[2]
    of_cases = [np.mean([r["dice"] for r in rows if r["case"] == f"case_{n}" and r["clicks"] == 4]) for n in range(3)]
    assert dice[2] == pytest.approx(np.mean(of_cases))
    assert float(table[2]["95 % low"]) <= dice[2] <= float(table[2]["95 % high"])
    assert (tmp_path / "out" / "figures" / "click_curve.png").stat().st_size > 5000
    assert (tmp_path / "out" / "click_curve_cases.csv").is_file()


def test_the_same_seed_gives_the_same_clicks(curve):
    first = curve.run()
    assert first == curve.run()
    curve.seed = 1
    assert first != curve.run()


def test_no_counts_no_curve(curve, tmp_path):
    curve.counts = []
    assert curve.run() == []
    assert not (tmp_path / "out").exists()
