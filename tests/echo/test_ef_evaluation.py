import csv
import json
import math

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from PIL import Image
from torch import nn

from custom_apps.echo.clip_protocols import ClipInferer, ClipProtocols
from custom_apps.echo.ef_evaluation import EFScores, EFTable
from custom_apps.echo.ef_metrics import ef_estimates
from custom_apps.echo.ef_report import EFReport


@pytest.fixture
def protocols() -> ClipProtocols:
    return ClipProtocols(length=3, period=2, clips=2, stride=1)


@pytest.fixture
def rows(protocols) -> list[dict]:
    """Six videos of 5 to 10 frames; the prediction grows along each."""
    random = np.random.default_rng(0)
    return [
        {
            "case": f"v{number}",
            "ef_percent": ef,
            "frames": 5 + number,
            "predictions": [ef + random.normal(0, 3) + start for start in protocols.starts(5 + number)],
        }
        for number, ef in enumerate([30.0, 65.0, 55.0, 42.0, 60.0, 38.0])
    ]


def test_protocols_side_by_side(rows, protocols):
    table = EFTable(rows, protocols)
    assert table.names == ["one_clip", "several_clips", "all_clips"]
    values = rows[5]["predictions"]
    assert table.predicted["one_clip"][5] == values[0]
    assert table.predicted["several_clips"][5] == pytest.approx((values[0] + values[-1]) / 2)
    assert table.predicted["all_clips"][5] == pytest.approx(np.mean(values))
    assert table.spread()[5] == pytest.approx(np.std(values, ddof=1))


def test_errors_are_of_averages_not_averages_of_errors(protocols):
    rows = [
        {"case": name, "ef_percent": ef, "frames": 6, "predictions": [ef - 10, ef + 10]}
        for name, ef in (("a", 40.0), ("b", 60.0))
    ]
    estimates = EFTable(rows, protocols).estimates()
    assert estimates["one_clip"]["rmse"].value == pytest.approx(10)
    assert estimates["all_clips"]["rmse"].value == pytest.approx(0)


def test_a_video_that_two_processes_saw_counts_once(rows, protocols):
    once, twice = EFTable(rows, protocols), EFTable([*rows, rows[2], rows[0]], protocols)
    assert twice.cases == once.cases
    assert twice.estimates() == once.estimates()


def test_beats_of_another_evaluation(rows, protocols):
    table = EFTable(rows, protocols, systoles={"v5": [3, 4], "v1": [90]}, lead_frames=2)
    values = dict(zip(protocols.starts(10), rows[5]["predictions"], strict=True))
    assert table.predicted["beat_by_beat"][5] == pytest.approx((values[1] + values[2]) / 2)
    assert np.isnan(table.predicted["beat_by_beat"]).sum() == 5
    assert len(table.pairs("beat_by_beat")[0]) == 1
    assert table.best_covered == "all_clips"


def test_report(rows, protocols, tmp_path):
    report = EFReport(tmp_path / "results", level=0.9, resamples=200, published=True)
    text = report.write(EFTable(rows, protocols))
    assert "6 videos" in text
    assert "5th to 95th percentile" in text
    folder = tmp_path / "results"
    with open(folder / "videos.csv", encoding="utf-8") as file:
        videos = list(csv.DictReader(file))
    assert [row["file_name"] for row in videos] == [f"v{i}" for i in range(6)]
    assert float(videos[3]["one_clip"]) == rows[3]["predictions"][0]
    assert videos[0]["clips"] == "2"
    lines = (folder / "clips.csv").read_text().splitlines()
    assert lines[2] == f"v1.avi,0,{rows[1]['predictions'][0]:.4f}"
    assert len(lines) == sum(len(row["predictions"]) for row in rows)
    results = json.loads((folder / "results.json").read_text())
    expected = ef_estimates([row["ef_percent"] for row in rows], [np.mean(row["predictions"]) for row in rows])
    assert results["protocols"]["all_clips"]["mae"]["value"] == pytest.approx(expected["mae"].value)
    assert results["protocols"]["all_clips"]["mae"]["level"] == 0.9
    markdown = (folder / "results.md").read_text(encoding="utf-8")
    assert "not measured here" in markdown
    assert "AUC, EF < 40 %" in markdown
    for name in ("scatter", "bland_altman", "absolute_errors", "roc"):
        with Image.open(folder / "figures" / f"{name}.png") as image:
            assert min(image.size) > 300


def test_report_without_spread_or_positive_cases(protocols, tmp_path):
    rows = [{"case": name, "ef_percent": 60.0, "frames": 6, "predictions": [58.0, 58.0]} for name in ("a", "b", "c")]
    text = EFReport(tmp_path, resamples=50).write(EFTable(rows, protocols))
    assert "2.000" in text
    assert json.loads((tmp_path / "results.json").read_text())["protocols"]["one_clip"]["r2"]["value"] is None
    assert "published" not in (tmp_path / "results.md").read_text(encoding="utf-8").lower()
    EFReport(tmp_path / "one", resamples=50).write(EFTable(rows[:1], protocols))
    assert not (tmp_path / "one" / "figures").exists()


class MeanGray(nn.Module):
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips.mean((1, 2, 3, 4))[:, None]


def evaluator(items: list[dict], scores: EFScores, protocols: ClipProtocols) -> SupervisedEvaluator:
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=1),
        network=MeanGray(),
        inferer=ClipInferer(protocols, batch_size=2),
        key_val_metric={"mae": scores},
    )


def test_in_an_evaluator(protocols, tmp_path):
    torch.manual_seed(0)
    items = [
        {
            "image": 50 + 10 * torch.rand(1, frames, 4, 4),
            "ef_percent": torch.tensor([55.0 + frames]),
            "case": f"v{frames}",
        }
        for frames in (4, 9, 12)
    ]
    scores = EFScores(protocols, report=EFReport(tmp_path, resamples=50, figures=False))
    engine = evaluator(items, scores, protocols)
    engine.run()
    assert scores.table.cases == ["v12", "v4", "v9"]
    video = items[1]["image"]
    clips = [video[:, start : start + 5 : 2].mean() for start in range(5)]
    assert scores.table.predicted["all_clips"][2] == pytest.approx(float(torch.stack(clips).mean()))
    expected = np.abs(scores.table.predicted["all_clips"] - scores.table.reference).mean()
    assert engine.state.metrics["mae"] == pytest.approx(expected)
    assert engine.state.metrics["mae_one_clip"] != engine.state.metrics["mae_all_clips"]
    assert (tmp_path / "videos.csv").is_file()
    # A second run starts from nothing.
    engine.run()
    assert len(scores.table.cases) == 3


def test_a_prediction_that_is_not_finite_is_an_error(protocols):
    items = [{"image": torch.full((1, 8, 4, 4), math.nan), "ef_percent": torch.tensor([55.0]), "case": "broken"}]
    with pytest.raises(FloatingPointError, match="broken"):
        evaluator(items, EFScores(protocols), protocols).run()
