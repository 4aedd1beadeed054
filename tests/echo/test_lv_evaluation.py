import csv
import json
import math

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from torch import nn

from custom_apps.common.errors import DataError
from custom_apps.echo.lv_curve import LVCurve
from custom_apps.echo.lv_evaluation import LVScores, LVTable, video_row
from custom_apps.echo.lv_inferer import VentricleInferer
from custom_apps.echo.lv_video import draw_contact_sheet, overlay_frames, to_gray_levels, write_overlay_video
from custom_apps.echo.result_files import read_regressed, read_systoles
from custom_apps.echo.video_file import read_video

BEAT, FRAMES, SIZE = 40, 100, 48


def beating_masks(smallest: float) -> np.ndarray:
    """Ellipses that shrink to ``smallest`` of their axes in the middle of each beat of 40 frames."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    factor = 1 - (1 - smallest) * (1 - np.cos(2 * np.pi * np.arange(FRAMES) / BEAT)) / 2
    return np.stack([(y / (20 * f)) ** 2 + (x / (11 * f)) ** 2 <= 1 for f in factor]).astype(np.uint8)


def video(case: str, smallest: float, traced: bool = True) -> dict:
    masks = beating_masks(smallest)
    item = {
        "case": case,
        "fps": 50.0,
        "ef_percent": torch.tensor([100 * (1 - smallest**3)]),
        "pred": torch.from_numpy(masks)[None],
    }
    if traced:
        item |= {"label": torch.from_numpy(masks[[40, 20]]).long(), "label_frame": torch.tensor([40, 20])}
    return item


def test_a_curve_knows_beats_rate_and_ejection_fraction():
    curve = LVCurve.of(beating_masks(0.8), fps=50.0)
    assert curve.systoles == (20, 60)
    assert [beat.end_diastole for beat in curve.beats] == pytest.approx([0, 40], abs=2)
    assert curve.heart_rate_per_minute == pytest.approx(75)
    assert curve.ef_percent() == pytest.approx(100 * (1 - 0.8**3), abs=3)
    assert curve.ef_percent("disks") == pytest.approx(100 * (1 - 0.8**3), abs=3)
    assert math.isnan(LVCurve.of(beating_masks(0.8)).heart_rate_per_minute)
    nothing = LVCurve.of(np.zeros((30, 8, 8)))
    assert nothing.systoles == ()
    assert math.isnan(nothing.ef_percent())


def test_the_frame_rate_decides_which_beats_are_too_close():
    masks = beating_masks(0.8)[::4]
    # Beats of 10 frames: 0.8 s at 12.5 frames a second, but only 0.2 s at 50.
    assert LVCurve.of(masks, fps=12.5).systoles == (5, 15)
    assert len(LVCurve.of(masks, fps=50.0).systoles) == 1


def test_table_and_files(tmp_path):
    items = [video("b", 0.75), video("a", 0.9, traced=False), video("b", 0.75)]
    table = LVTable([video_row(item) for item in items], regressed={"a": 30.0})
    text = table.write(tmp_path, resamples=50)
    assert "2 videos" in text
    assert [row["case"] for row in table.rows] == ["a", "b"]
    assert table.pairs("area_length")[0].tolist() == pytest.approx([27.1, 57.8125])
    np.testing.assert_allclose(*table.pairs("area_length"), atol=3)
    assert table.pairs("regressed")[1].tolist() == [30.0]
    with open(tmp_path / "size.csv", encoding="utf-8") as file:
        sizes = [row for row in csv.DictReader(file) if row["Filename"] == "b"]
    assert list(sizes[0]) == ["Filename", "Frame", "Size", "HumanLarge", "HumanSmall", "ComputerSmall"]
    assert len(sizes) == FRAMES
    assert int(sizes[7]["Size"]) == beating_masks(0.75)[7].sum()
    assert [n for n, row in enumerate(sizes) if row["HumanLarge"] == "1"] == [40]
    assert [n for n, row in enumerate(sizes) if row["HumanSmall"] == "1"] == [20]
    assert [n for n, row in enumerate(sizes) if row["ComputerSmall"] == "1"] == [20, 60]
    # The detected systoles come back from the file.
    assert read_systoles(tmp_path / "size.csv") == {"a": [20, 60], "b": [20, 60]}
    assert "b,1.0,1.0,1.0" in (tmp_path / "dice.csv").read_text()
    assert json.loads((tmp_path / "results.json").read_text())["ejection_fraction"]["area_length"]["mae"]["value"] < 3
    assert (tmp_path / "figures" / "area_curves.png").stat().st_size > 5000
    assert (tmp_path / "figures" / "scatter.png").exists() is False


def test_videos_without_labels(tmp_path):
    items = [video("a", 0.8, traced=False), video("c", 0.7, traced=False)]
    for item in items:
        del item["ef_percent"], item["fps"]
    table = LVTable([video_row(item) for item in items])
    table.write(tmp_path, resamples=50)
    assert not (tmp_path / "dice.csv").exists()
    assert json.loads((tmp_path / "results.json").read_text())["ejection_fraction"] == {}
    with open(tmp_path / "videos.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["ef_percent"] == rows[0]["fps"] == ""
    assert float(rows[0]["ef_area_length"]) == pytest.approx(100 * (1 - 0.8**3), abs=3)


class Bright(nn.Module):
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(clips), clips], 1)


def test_in_an_evaluator(tmp_path):
    items = []
    for case, smallest in (("a", 0.8), ("b", 0.7)):
        item = video(case, smallest)
        items.append({**item, "image": 2.0 * item.pop("pred").float() - 1})
    for item in items:
        del item["pred"]
    scores = LVScores(tmp_path, resamples=50)
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=1),
        network=Bright(),
        inferer=VentricleInferer(length=16, window_frames=16),
        key_val_metric={"mean_dice": scores},
    )
    engine.run()
    assert engine.state.metrics["mean_dice"] == 1
    assert engine.state.metrics["mae_area_length"] < 3
    assert scores.table.rows[0]["label_frame"] == [40, 20]
    assert len((tmp_path / "size.csv").read_text().splitlines()) == 2 * FRAMES + 1


def test_results_of_another_evaluation(tmp_path):
    path = tmp_path / "videos.csv"
    path.write_text("file_name,ef_percent,one_clip,all_clips\na,50,48.5,49.5\n")
    assert read_regressed(path) == {"a": 49.5}
    assert read_regressed(path, "one_clip") == {"a": 48.5}
    with pytest.raises(DataError, match="beat_by_beat"):
        read_regressed(path, "beat_by_beat")
    path.write_text("Filename,Frame,Size,HumanLarge,HumanSmall,ComputerSmall\nx.avi,3,10,0,0,1\nx.avi,4,10,0,0,no\n")
    with pytest.raises(DataError, match="ComputerSmall"):
        read_systoles(path)


def test_overlay_colours_the_ventricle_only():
    gray = np.full((3, SIZE, SIZE), 100, np.uint8)
    masks = beating_masks(0.8)[:3]
    frames = overlay_frames(gray, masks)
    assert frames.shape == (3, SIZE, SIZE, 3)
    assert (frames[masks == 0] == 100).all()
    inside = frames[masks > 0].astype(int)
    assert (inside[:, 2] > inside[:, 0] + 30).all()


@pytest.mark.parametrize("ending", [".avi", ".mp4"])
def test_overlay_video(tmp_path, ending):
    random = np.random.default_rng(0)
    gray = random.integers(0, 200, (12, 45, 51), dtype=np.uint8)
    masks = np.zeros_like(gray)
    masks[:, 10:30, 10:30] = 1
    write_overlay_video(tmp_path / f"v{ending}", gray, masks, fps=40.0)
    written = read_video(tmp_path / f"v{ending}")
    assert written.fps == pytest.approx(40)
    assert len(written.frames) == 12
    left, right = np.split(written.frames[5].astype(int), 2, axis=1)
    scale = left.shape[0] / 45
    place = slice(int(14 * scale), int(26 * scale))
    assert (right[place, place, 2] - right[place, place, 0]).mean() > 40
    assert abs((left[place, place, 2] - left[place, place, 0]).mean()) < 5


def test_contact_sheet(tmp_path):
    masks = beating_masks(0.8)
    draw_contact_sheet(tmp_path / "sheet.png", np.full(masks.shape, 90, np.uint8), masks, heading="a video")
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_gray_levels_undo_the_normalization():
    gray = np.random.default_rng(0).integers(0, 256, (4, 6, 7), dtype=np.uint8)
    normalized = (torch.from_numpy(gray)[None] / 255 - 0.2) / 0.3
    np.testing.assert_array_equal(to_gray_levels(normalized, 0.2, 0.3), gray)
