"""What the reports of the segmentation bundle show."""

import json
import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image

from custom_apps.cli import main
from custom_apps.common.errors import DataError
from custom_apps.common.report_command import report_folder
from custom_apps.common.table import write_csv
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.overlay_figures import OverlayFigures
from custom_apps.seg.prediction_figures import PredictionFigures, voxel_size
from custom_apps.seg.protocol import SegmentationProtocol
from custom_apps.seg.room import ROOM
from custom_apps.seg.score_tables import ScoreTables
from custom_apps.seg.volume_io import read_images
from tests.common.report_page import HOSTILE, assert_fits, bundle_of, checked, evaluated, needs_browser, shown
from tests.seg.model_phantom import LABELS, intensities, label_map

SHAPE = (8, 24, 20)


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """Four cases as the transforms leave them; the prediction of each is moved farther than that of the one before."""
    folder, found = tmp_path_factory.mktemp("images"), []
    for number, name in enumerate(["a", "b", "c", HOSTILE]):
        labels, path = label_map(SHAPE, number), folder / f"{number}_0000.nii.gz"
        image = sitk.GetImageFromArray(intensities(labels).astype(np.float32))
        image.SetSpacing((1.0, 1.0, 2.0))
        sitk.WriteImage(image, str(path))
        pred = torch.from_numpy(np.roll(labels, number, 2))[None]
        properties = json.dumps(read_images([path])[1])
        label = torch.from_numpy(labels)[None]
        found.append({"case": name, "image_path": str(path), "properties": properties, "label": label, "pred": pred})
    return found


@pytest.fixture(scope="module")
def scored(items, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    protocol = SegmentationProtocol({"labels": LABELS}, measures=["dice", "hd95_mm"])
    arrays = [(i["pred"].numpy()[0], i["label"].numpy()[0], (2.0, 1.0, 1.0), i["case"]) for i in items]
    ScoreTables([row for each in arrays for row in protocol.score(*each)], protocol).write(folder)
    write_csv([{"case": i["case"], "seconds": 1.5} for i in items], folder / "times.csv")
    rows = [
        {"clicks": n, "label": "mean", "cases": 4, "mean": 0.5 + n / 10, "95 % low": 0.4, "95 % high": 0.9}
        for n in (0, 3)
    ]
    write_csv(rows, folder / "click_curve.csv")
    outputs = [item | {"pred": {"pred": item["pred"], "label": item["label"]}} for item in items]
    evaluated([OverlayFigures(folder / "figures" / "overlays.png", protocol)], outputs)
    return report_folder(ROOM, folder, bundle_of(ROOM))


def test_scores(scored):
    page = checked(scored)
    for text in (
        *("mean Dice", "mean HD95, mm", "95 % interval", "4 cases; mean over cases, then structures"),
        *("liver Dice 4", "kidney HD95, mm 4", "Median time of a case: 1.50 s.", "0 mean 4 0.500 0.400 0.900"),
    ):
        assert text in page.text, text
    worst = page.text.index("Worst cases first")
    assert page.text.index(HOSTILE) == page.text.index(f"{HOSTILE} mean Dice 0.", worst)
    table = page.text.index("The worst by mean Dice")
    assert page.text.index(HOSTILE, table) < page.text.index(" c 0.", table) < page.text.index(" a 1.000", table)
    assert len(page.pictures) == 4, "three cases one by one, and the overview"


@needs_browser
def test_scores_on_a_phone(scored, tmp_path):
    assert_fits(shown(scored, tmp_path, 390))


def test_predictions(items, tmp_path):
    times = [{"case": item["case"], "seconds": 2.0} for item in items]
    write_csv(times, tmp_path / "prediction_times.csv")
    rows = [
        {"case": "a", "structure": "liver", "voxels": 500, "volume_ml": 1.25},
        {"case": "a", "structure": "kidney", "voxels": 9, "volume_ml": None},
    ]
    write_csv(rows, tmp_path / "volumes.csv")
    evaluated([PredictionFigures(tmp_path / "figures", LabelManager(LABELS), cases=2)], items)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["a.png", "b.png"]
    page = checked(report_folder(ROOM, tmp_path, bundle_of(ROOM)))
    assert "Segmentation: prediction" in page.text
    assert "case liver kidney" in page.text
    assert "a 1.2 9.0 b – –" in page.text
    assert "median time of a case 2.0 s" in page.text
    assert len(page.pictures) == 2
    assert page.pictures[0].size[0] > 1000


def test_cells_the_worst_first(tmp_path):
    rows = [{"case": name, "TP": 3, "F1": f1} for name, f1 in (("a", 0.9), (HOSTILE, math.nan), ("c", 0.2))]
    write_csv(rows, tmp_path / "cells-0.5.csv")
    page = checked(report_folder(ROOM, tmp_path, bundle_of(ROOM)))
    assert "F1 at IoU 0.5, median 0.550 2 images" in page.text
    assert page.text.index(HOSTILE) < page.text.index("c 3.000 0.200") < page.text.index("a 3.000 0.900")


def test_saliency_and_missing_figures(tmp_path):
    protocol = SegmentationProtocol({"labels": LABELS})
    ScoreTables([], protocol).write(tmp_path)
    (tmp_path / "saliency").mkdir()
    (tmp_path / "saliency" / "case_1_saliency.png").write_bytes(b"no picture")
    page = checked(report_folder(ROOM, tmp_path, bundle_of(ROOM)))
    assert "Where the network looks" in page.text
    assert "saliency/case_1_saliency.png: the picture cannot be read" in page.text
    assert not page.pictures


def test_saliency_alone(tmp_path):
    (tmp_path / "saliency").mkdir()
    for name in ("a_saliency.png", "a_saliency_map.png", "b_map.png", "other.png"):
        Image.new("RGB", (90, 60)).save(tmp_path / "saliency" / name)
    page = checked(report_folder(ROOM, tmp_path, bundle_of(ROOM)))
    assert "Saliency maps: prediction" in page.text
    assert "they do not explain its answer. a Where the network responds. b Where the network" in page.text
    assert len(page.pictures) == 2


def test_command(tmp_path, capsys):
    assert main(["report", ROOM.bundle, str(tmp_path)]) == 1
    assert "has no results (expected one of structures.csv" in capsys.readouterr().err
    ScoreTables([], SegmentationProtocol({"labels": LABELS})).write(tmp_path)
    assert main(["report", ROOM.bundle, str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
    checked(tmp_path / "report.html")
    assert main(["report", ROOM.bundle, str(tmp_path)]) == 1
    assert "report.html: already there and not overwritten" in capsys.readouterr().err
    other = tmp_path / "new" / "other.html"
    assert main(["report", ROOM.bundle, str(tmp_path), "--overwrite", "--output", str(other)]) == 0
    assert other.is_file()


def test_sizes_have_units():
    assert voxel_size({"spacing": [2, 1, 1], "sitk": {"spacing": [1, 1, 2]}}) == (0.002, "ml")
    assert voxel_size({"spacing": [999, 1, 1]}) == (1.0, "pixels")


def test_broken_tables_are_named(tmp_path):
    (tmp_path / "structures.csv").write_text("label,cases\nliver,3\n")
    with pytest.raises(DataError, match=r"structures\.csv: has no column 'measure'"):
        report_folder(ROOM, tmp_path, bundle_of(ROOM))
