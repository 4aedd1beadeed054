"""What the reports of the echocardiography bundle show."""

import numpy as np
import pytest
import torch

from custom_apps.common.class_probabilities import SaveProbabilities
from custom_apps.common.classification_evaluation import ClassificationTable
from custom_apps.common.errors import DataError
from custom_apps.common.report_command import report_folder
from custom_apps.echo.clip_protocols import ClipProtocols
from custom_apps.echo.ef_evaluation import EFTable
from custom_apps.echo.ef_export import AverageClipsd, SaveEF
from custom_apps.echo.ef_report import EFReport
from custom_apps.echo.lv_evaluation import LVTable, video_row
from custom_apps.echo.lv_export import SaveLV
from custom_apps.echo.room import ROOM
from custom_apps.echo.worst_videos import WorstFractions, WorstLesions, WorstVentricles, spread_frames
from tests.common.report_page import HOSTILE, assert_fits, bundle_of, checked, evaluated, needs_browser, shown
from tests.echo.test_lv_evaluation import video

PROTOCOLS = ClipProtocols(length=3, period=2, clips=2, stride=1)


@pytest.fixture(scope="module")
def fractions(tmp_path_factory):
    """Six videos; the prediction for the hostile one is the worst."""
    folder, random, rows = tmp_path_factory.mktemp("fractions"), np.random.default_rng(0), []
    for number, ef in enumerate([30.0, 65.0, 55.0, 42.0, 60.0, 38.0]):
        error, frames = 25 if number == 3 else random.normal(0, 3), 5 + number
        predictions = [ef + error + random.normal(0, 1) for _ in PROTOCOLS.starts(frames)]
        name = HOSTILE if number == 3 else f"v{number}"
        rows.append({"case": name, "ef_percent": ef, "frames": frames, "predictions": predictions})
    EFReport(folder, resamples=99).write(EFTable(rows, PROTOCOLS))
    items = [
        {**row, "image": torch.randn(1, row["frames"], 12, 16), "pred": torch.tensor(row["predictions"])}
        for row in rows
    ]
    evaluated([WorstFractions(folder / "figures", PROTOCOLS, cases=2)], items)
    return report_folder(ROOM, folder, bundle_of(ROOM))


def test_fractions(fractions):
    page = checked(fractions)
    for text in (
        *("Ejection fraction: evaluation", " points 95 % interval ", "6 videos", "By the protocol: all clips."),
        *("AUC, EF < 50 %", "5th to 97.5th percentile of 99 bootstrap samples", "one clip, from frame 0"),
        *("limits of agreement (Bland and Altman 1986)", "95 % agreement, upper"),
    ):
        assert text in page.text, text
    worst = page.text.index("Worst cases first")
    assert page.text.index(HOSTILE) == page.text.index(f"{HOSTILE} reported 42.0 %, predicted 6", worst)
    table = page.text.index("The largest errors")
    assert page.text[table:].startswith(f"The largest errors video reported predicted error, points {HOSTILE} 42.0 6")
    assert len(page.pictures) == 2 + 4


@needs_browser
def test_fractions_on_a_phone(fractions, tmp_path):
    assert_fits(shown(fractions, tmp_path, 390))


def test_ventricles(tmp_path):
    videos = [video("v0", 0.8), video(HOSTILE, 0.7), video("untraced", 0.8, traced=False)]
    videos[1]["pred"] = torch.roll(videos[1]["pred"], 12, -1)
    for item in videos:
        item["image"] = torch.rand(1, 100, 48, 48)
    whole = tmp_path / "videos"
    table = LVTable([video_row(item) for item in videos])
    table.write(whole, resamples=99)
    table.dice.write(tmp_path, resamples=99)
    handlers = [WorstVentricles(tmp_path / "figures"), SaveLV(whole / "figures", 0.0, 1.0, ["sheet"], limit=1)]
    evaluated(handlers, videos)
    page = checked(report_folder(ROOM, tmp_path, bundle_of(ROOM)))
    assert "Dice, end-systole" in page.text
    assert "MAE of ejection fraction, segmented, area–length" in page.text
    worst = page.text.index("Worst cases first")
    order = [page.text.index(text, worst) for text in (f"{HOSTILE} Dice 0.", "v0 Dice 1.000", "The lowest Dice")]
    assert order == sorted(order)
    assert "untraced Dice" not in page.text
    assert len(page.pictures) == 2 + 1 + 1 + 2, "worst, curves, sheet, scatter and agreement"
    assert "Dice, end-systole" in checked(report_folder(ROOM, whole, bundle_of(ROOM))).text


def test_lesions(tmp_path):
    rows = [{"case": f"v{n}", "label": n % 2, "probability": 0.2 + 0.1 * n} for n in range(6)]
    for prefix in ("", "frame_"):
        ClassificationTable(rows).write(tmp_path, resamples=99, prefix=prefix)
    items = [
        {**row, "image": torch.randn(1, 8, 12, 12), "pred": torch.logit(torch.tensor([row["probability"]]))}
        for row in rows
    ]
    evaluated([WorstLesions(tmp_path / "figures", ["benign", "malignant"])], items)
    page = checked(report_folder(ROOM, tmp_path, bundle_of(ROOM)))
    assert "v1 malignant, predicted with probability 0.300" in page.text
    assert "By the frames alone" in page.text
    assert len(page.pictures) == 3 + 2


def test_fractions_of_new_videos(tmp_path):
    averages, items = AverageClipsd("pred", PROTOCOLS), []
    for name, spread in (("calm.avi", 0.1), (HOSTILE, 9.0)):
        count = len(PROTOCOLS.starts(9))
        pred = 50 + spread * torch.linspace(-1, 1, count)
        items.append({"file_name": name, "image": torch.zeros(1, 9, 4, 4), "fps": 50.0})
        items[-1]["pred"] = averages({**items[-1], "pred": pred})
    evaluated([SaveEF(tmp_path)], items)
    page = checked(report_folder(ROOM, tmp_path, bundle_of(ROOM)))
    assert "videos 2" in page.text
    assert page.text.index(f"{HOSTILE} 50.0") < page.text.index("calm.avi 50.0")


def test_masks_and_lesions_of_new_videos(tmp_path):
    item = {**video("v[1]", 0.8), "image": torch.rand(1, 100, 48, 48)}
    evaluated([SaveLV(tmp_path / "masks", 0.0, 1.0, ["masks", "curve"])], [item])
    page = checked(report_folder(ROOM, tmp_path / "masks", bundle_of(ROOM)))
    assert "v[1]_lv.nii.gz, v[1]_lv_area.png" in page.text
    assert len(page.pictures) == 1
    lesion = {"file_name": "a.mp4", "pred": torch.tensor([1.0])}
    evaluated([SaveProbabilities(tmp_path / "lesions.csv", ["benign", "malignant"])], [lesion])
    assert "called malignant 1" in checked(report_folder(ROOM, tmp_path, bundle_of(ROOM))).text


def test_broken_results_are_named(tmp_path):
    (tmp_path / "videos.csv").write_text("file_name,ef\nv,1\n")
    with pytest.raises(DataError, match=r"videos\.csv: has no column 'ef_percent'"):
        report_folder(ROOM, tmp_path, bundle_of(ROOM))


def test_frames_are_spread_over_short_videos_too():
    assert spread_frames(torch.rand(1, 4, 5, 6)).shape == (4, 5, 6)
    frames = spread_frames(torch.arange(100.0).view(1, 100, 1, 1))
    assert frames[:, 0, 0].tolist() == [0, 52, 103, 152, 203, 255]
