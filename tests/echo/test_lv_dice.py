import csv
import json
import math

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer
from torch import nn

from custom_apps.echo.lv_dice import DiceTable, LVDice, overlap_counts
from tests.published.vector import HERE, Vector


def random_video(seed: int, frames: int = 5) -> dict:
    random = torch.Generator().manual_seed(seed)
    return {
        "case": f"v{seed}",
        "label": (torch.rand(2, 7, 9, generator=random) < 0.4).long(),
        "label_frame": torch.tensor([frames - 1, 0] if seed % 2 else [0, frames - 1]),
        "pred": torch.randn(2, frames, 7, 9, generator=random),
    }


def dice(predicted: torch.Tensor, label: torch.Tensor) -> float:
    return float(2 * (predicted * label).sum() / (predicted.sum() + label.sum()))


def test_each_phase_is_compared_in_its_frame():
    video = random_video(1)
    counts = overlap_counts(video["pred"], video["label"], video["label_frame"])
    masks = video["pred"].argmax(0)
    both, predicted_only, traced_only = counts["ed"]
    assert both == int((masks[4] * video["label"][0]).sum())
    assert both + predicted_only == int(masks[4].sum())
    assert both + traced_only == int(video["label"][0].sum())
    assert counts["es"][0] == int((masks[0] * video["label"][1]).sum())
    # A label map says the same as logits.
    assert overlap_counts(masks[None].to(torch.uint8), video["label"], video["label_frame"]) == counts


def test_mean_over_videos_and_pooled():
    videos = [random_video(seed) for seed in range(4)]
    metric = LVDice()
    for video in videos:
        metric.update(video)
    pooled = metric.compute()
    table = metric.table
    masks = [video["pred"].argmax(0)[video["label_frame"]] for video in videos]
    expected = [dice(mask[0], video["label"][0]) for mask, video in zip(masks, videos, strict=True)]
    np.testing.assert_allclose(table.per_video("ed"), expected, rtol=1e-6)
    everything = dice(torch.stack(masks), torch.stack([video["label"] for video in videos]))
    assert pooled == pytest.approx(everything)
    estimates = table.estimates(resamples=200)
    assert estimates["per_video"]["ed"].value == pytest.approx(np.mean(expected))
    assert estimates["pooled"]["overall"].value == pytest.approx(everything)
    assert estimates["pooled"]["overall"].low < everything < estimates["pooled"]["overall"].high


def test_by_hand_with_an_empty_and_a_double_video():
    rows = [
        {"case": "b", "ed": [3, 1, 0], "es": [0, 0, 2]},
        {"case": "a", "ed": [0, 0, 0], "es": [4, 0, 0]},
        {"case": "b", "ed": [3, 1, 0], "es": [0, 0, 2]},
    ]
    table = DiceTable(rows)
    assert [row["case"] for row in table.rows] == ["a", "b"]
    assert math.isnan(table.per_video("ed")[0])
    assert table.per_video("ed")[1] == pytest.approx(6 / 7)
    assert table.per_video("overall").tolist() == pytest.approx([1.0, 6 / 9])
    assert table.pooled("es") == pytest.approx(8 / 10)


def test_files(tmp_path):
    table = DiceTable(
        [{"case": "a", "ed": [3, 1, 0], "es": [4, 0, 0]}, {"case": "b", "ed": [5, 0, 2], "es": [4, 1, 1]}]
    )
    assert "end-systole" in table.write(tmp_path, resamples=50)
    with open(tmp_path / "dice.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["Filename", "Overall", "Large", "Small"]
    assert float(rows[1]["Small"]) == pytest.approx(0.8)
    assert json.loads((tmp_path / "dice.json").read_text())["pooled"]["ed"]["value"] == pytest.approx(16 / 19)
    assert "95 % CI" in (tmp_path / "dice.md").read_text(encoding="utf-8")


class Threshold(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(image), image], 1)


def test_in_an_evaluator_with_batches(tmp_path):
    items = []
    for seed in range(5):
        video = random_video(seed)
        items.append(
            {
                "image": video["pred"][:1],
                "label": video["label"],
                "label_frame": video["label_frame"],
                "case": video["case"],
            }
        )
    metric = LVDice(output_dir=tmp_path)
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=2),
        network=Threshold(),
        inferer=SimpleInferer(),
        key_val_metric={"overall_dice": metric},
    )
    engine.run()
    masks = torch.stack([(item["image"][0] > 0)[item["label_frame"]] for item in items]).long()
    assert engine.state.metrics["overall_dice"] == pytest.approx(
        dice(masks, torch.stack([item["label"] for item in items]))
    )
    assert engine.state.metrics["ed_dice_per_video"] == pytest.approx(np.mean(metric.table.per_video("ed")))
    assert len((tmp_path / "dice.csv").read_text().splitlines()) == 6


def test_unknown_measure():
    with pytest.raises(ValueError, match="pooled"):
        LVDice("batch")


def test_pooled_values_are_the_published_ones():
    vector = Vector.read(HERE / "echo_ef_mamba3d" / "seg.safetensors")
    given, expected = vector.section("in"), vector.section("out")
    metric, length = LVDice(), expected["pred_seg"].shape[2]
    for number, logits in enumerate(expected["pred_seg"]):
        label = torch.stack([given["gt_largetrace"][number], given["gt_smalltrace"][number]])
        frames = torch.stack([given["large_index"][number], given["small_index"][number]]) % length
        metric.update({"case": str(number), "pred": logits, "label": label, "label_frame": frames})
    assert metric.compute() == pytest.approx(float(expected["epoch_overall_global_dice"]), abs=1e-6)
    for phase in ("ed", "es"):
        assert metric.table.pooled(phase) == pytest.approx(float(expected[f"epoch_{phase}_global_dice"]), abs=1e-6)
