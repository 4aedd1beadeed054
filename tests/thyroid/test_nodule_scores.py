import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from custom_apps.thyroid.nodule_scores import NoduleScores


def case(name, seed, size=(23, 31)):
    random = np.random.default_rng(seed)
    label = torch.zeros(size, dtype=torch.int64)
    label[5:15, 8:20] = 1
    label[:, -2:] = 255
    pred = label.clamp(max=1) if seed == 0 else torch.from_numpy(random.integers(0, 2, size))
    return {"case": name, "label": label, "pred": pred}


def test_value_is_of_all_pixels_together():
    cases = [case(f"c{seed}", seed, (23 + seed, 31)) for seed in range(3)]
    scores = NoduleScores("nodule_iou")
    for each in cases:
        scores.update(each)
    both = sum(int(((c["pred"] == 1) & (c["label"] == 1)).sum()) for c in cases)
    either = sum(int((((c["pred"] == 1) | (c["label"] == 1)) & (c["label"] != 255)).sum()) for c in cases)
    assert scores.compute() == pytest.approx(both / either)


def test_image_seen_twice_counts_once():
    once, twice = NoduleScores(), NoduleScores()
    for scores, times in ((once, 1), (twice, 2)):
        for _ in range(times):
            scores.update(case("a", 1))
        scores.update(case("b", 2))
    assert once.compute() == twice.compute()


def test_report(tmp_path):
    scores = NoduleScores(output_dir=tmp_path, resamples=200)
    outputs = [case(f"c{seed}", seed) for seed in range(4)]
    outputs[3]["pred"] = torch.zeros_like(outputs[3]["pred"])
    for output in outputs:
        output["published_pred"] = torch.zeros(16, 16, dtype=torch.int64)
    engine = SimpleNamespace(
        state=SimpleNamespace(
            batch=[{"case": o["case"], "label": o["label"]} for o in outputs],
            output=[{"pred": o["pred"], "published_pred": o["published_pred"]} for o in outputs],
            metrics={},
        ),
        logger=SimpleNamespace(info=lambda *_: None),
    )
    scores.iteration_completed(engine)
    scores.completed(engine, "mean_dice")
    assert {"mean_dice", "mean_iou", "nodule_dice", "nodule_iou"} <= set(engine.state.metrics)
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["missed"] == 1
    assert content["pooled"]["iou"]["low"] < content["pooled"]["iou"]["value"] < content["pooled"]["iou"]["high"]
    assert content["published_per_image"]["dice"]["images"] == 4
    with open(tmp_path / "cases.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["c0", "c1", "c2", "c3"]
    assert float(rows[0]["iou"]) == 1.0
    assert "95 %" in (tmp_path / "results.md").read_text(encoding="utf-8")


def test_unknown_measure():
    with pytest.raises(ValueError, match="mean_dice"):
        NoduleScores("dice")
