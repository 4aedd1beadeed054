"""What the reports of the thyroid bundle show."""

import numpy as np
import pytest
import torch

from custom_apps.common.class_probabilities import SaveProbabilities
from custom_apps.common.classification_evaluation import ClassificationTable
from custom_apps.common.errors import DataError
from custom_apps.common.report_command import report_folder
from custom_apps.thyroid.mask_export import SaveMasks
from custom_apps.thyroid.nodule_scores import write_report
from custom_apps.thyroid.overlays import OverlaySheet, save_picture
from custom_apps.thyroid.restoration import PROBABILITY
from custom_apps.thyroid.room import ROOM
from custom_apps.thyroid.segmentation_metrics import SegmentationTable, image_row
from tests.common.report_page import HOSTILE, assert_fits, bundle_of, checked, evaluated, needs_browser, shown


def disc(radius: float, size=(60, 80)) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return ((y - 30) ** 2 + (x - 40) ** 2 < radius**2).astype(np.int64)


@pytest.fixture(scope="module")
def outlines(tmp_path_factory):
    """Report of five images, the first missed altogether."""
    folder = tmp_path_factory.mktemp("outlines")
    names, radii = [HOSTILE, "b", "c", "d", "e"], [0, 10, 14, 18, 20]
    label, records, items = torch.from_numpy(disc(20)), [], []
    for number, (name, radius) in enumerate(zip(names, radii, strict=True)):
        path = folder / "images" / f"{number}.png"
        save_picture(np.random.default_rng(number).integers(0, 99, (60, 80), dtype=np.uint8), path)
        records.append({"case": name, "image": str(path)})
        items.append({"case": name, "label": label, "pred": torch.from_numpy(disc(radius))})
    table = SegmentationTable([image_row(i["case"], i["pred"].numpy(), i["label"].numpy()) for i in items])
    write_report(table, folder, resamples=99)
    evaluated([OverlaySheet(folder / "figures" / "overlays.png", records)], items)
    return report_folder(ROOM, folder, bundle_of(ROOM))


def test_outlines(outlines):
    page = checked(outlines)
    assert "Thyroid nodules: evaluation" in page.text
    assert "nodules missed altogether 1 5 images" in page.text
    assert "nodule IoU, pixels of all images together" in page.text
    worst = page.text.index("Worst cases first")
    assert page.text.index(f"{HOSTILE} Dice 0.000", worst) < page.text.index("b Dice 0.39", worst), page.text[worst:]
    assert [p.size for p in page.pictures[:3]] == [(80, 60)] * 3, "the worst, one by one"
    assert len(page.pictures) == 4


@needs_browser
def test_outlines_on_a_phone(outlines, tmp_path):
    assert_fits(shown(outlines, tmp_path, 390))


def test_without_figures(tmp_path):
    write_report(SegmentationTable([image_row("a", disc(9), disc(12))]), tmp_path, resamples=9)
    page = checked(report_folder(ROOM, tmp_path, bundle_of(ROOM)))
    assert not page.pictures
    assert "Outlines" not in page.text


def test_classes(tmp_path):
    rows = [{"case": f"c{n}", "label": n % 2, "probability": 0.1 + 0.08 * n} for n in range(9)]
    rows.append({"case": HOSTILE, "label": 1, "probability": 0.02})
    ClassificationTable(rows).write(tmp_path, resamples=99)
    page = checked(report_folder(ROOM, tmp_path, bundle_of(ROOM)))
    worst = page.text.index("The cases that were furthest off")
    assert page.text.index(HOSTILE) == page.text.index(f"{HOSTILE} 1 0.020", worst)
    for text in ("10 images, 5 of class 1", "Youden threshold", "expected calibration error", "optimistic"):
        assert text in page.text
    assert len(page.pictures) == 1


def test_masks_of_new_images(tmp_path):
    records, items = [], []
    for name, radius, highest in (("sure", 20, 0.99), ("unsure", 9, 0.6), ("none", 0, 0.2)):
        image, mask = tmp_path / f"{name}.png", torch.from_numpy(disc(radius))
        save_picture(np.full((60, 80), 90, np.uint8), image)
        records.append({"case": f"study_{name}", "image": str(image), "file_name": f"study/{name}.png"})
        items.append(
            {"case": f"study_{name}", "pred": mask, PROBABILITY: torch.from_numpy(disc(max(radius, 1))) * highest}
        )
    evaluated([SaveMasks(tmp_path / "out", records)], items)
    page = checked(report_folder(ROOM, tmp_path / "out", bundle_of(ROOM)))
    assert "Thyroid nodules: prediction" in page.text
    assert "images 3 with a nodule 2" in page.text
    order = [page.text.index(f"study/{name}.png") for name in ("none", "unsure", "sure")]
    assert order == sorted(order)
    assert len(page.pictures) == 3
    assert "There is no run.json" in page.text


def test_class_probabilities_of_new_images(tmp_path):
    logits = {"=a.png": 4.0, HOSTILE: 0.1, "c.png": -3.0}
    items = [{"file_name": name, "pred": torch.tensor([0.0, logit])} for name, logit in logits.items()]
    evaluated([SaveProbabilities(tmp_path / "classes.csv", ["benign", "malignant"])], items)
    page = checked(report_folder(ROOM, tmp_path, bundle_of(ROOM)))
    assert "called benign 1 called malignant 2" in page.text
    assert page.text.index(HOSTILE) < page.text.index("c.png") < page.text.index("=a.png 0.982 malignant")
    assert "'=a.png" not in page.text, "a spreadsheet's guard is no part of a name"


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no results \(expected one of cases\.csv"):
        report_folder(ROOM, tmp_path, bundle_of(ROOM))
    (tmp_path / "nodules.csv").write_text("file_name,pixels\na,1\n")
    with pytest.raises(DataError, match=r"nodules\.csv: has no column 'nodule_share'"):
        report_folder(ROOM, tmp_path, bundle_of(ROOM))
