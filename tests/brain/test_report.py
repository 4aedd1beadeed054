"""What the reports of the brain bundle show."""

import numpy as np
import pytest
import torch
from PIL import Image

from custom_apps.brain.fold_table import FoldTable
from custom_apps.brain.knn_evaluation import NeighborTable
from custom_apps.brain.map_files import draw_map
from custom_apps.brain.room import ROOM
from custom_apps.brain.worst_examinations import WorstExaminations, brightest_part
from custom_apps.common.class_probabilities import SaveProbabilities
from custom_apps.common.errors import DataError
from custom_apps.common.report_command import report_folder
from custom_apps.common.table import write_csv
from tests.common.report_page import HOSTILE, assert_fits, bundle_of, checked, evaluated, needs_browser, shown

NAMES = ["wild type", "mutant"]


def head(seed: int) -> torch.Tensor:
    volume = torch.zeros(4, 12, 14, 10)
    volume[:, 2:10, 2:12, 2:8] = 1 + 0.1 * torch.rand(4, 8, 10, 6, generator=torch.Generator().manual_seed(seed))
    volume[3, 6:9, 8:11, 4:6] = 3
    return volume


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "cross_validation"
    random, rows = np.random.default_rng(1), []
    for number in range(24):
        label, name = number % 2, HOSTILE if number == 5 else f"EGD-{number:04d}"
        logits = [0.0, -9.0 if number == 5 else float(random.normal() + 2 * label - 1)]
        rows.append({"case": name, "fold": number % 3, "label": label, "idh": int(number > 3), "logits": logits})
    FoldTable(rows, {"IDH-mutant": {"idh": 1}}).write(folder, resamples=99, class_names=NAMES)
    items = [{**row, "image": head(n), "pred": torch.tensor(row["logits"])} for n, row in enumerate(rows)]
    evaluated([WorstExaminations(folder / "figures", NAMES, cases=2)], items)
    for fold in range(2):
        path = folder.parent / f"fold_{fold}" / "figures" / "training_curves.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (1200, 400), "white").save(path)
    return report_folder(ROOM, folder, bundle_of(ROOM))


def test_folds(folds):
    page = checked(folds)
    for text in (
        *("Marker status of gliomas: evaluation", "24 examinations, 12 of class 1", "AUROC, mean over folds"),
        *("AUROC, IDH-mutant", "Only idh mutant", "Fold 0", "Fold 1", "As the publication counts", "cross-entropy"),
        "Every case is predicted by the model of the fold that has not seen it.",
    ):
        assert text in page.text, text
    worst = page.text.index("Worst cases first")
    assert page.text.index(HOSTILE) == page.text.index(f"{HOSTILE} mutant, predicted with probability 0.000", worst)
    table = page.text.index("The cases that were furthest off")
    assert page.text.index(f"{HOSTILE} 2 1 0.000", table) < page.text.index(
        "10 of 24 rows; all are in out_of_fold.csv."
    )
    assert len(page.pictures) == 2 + 1 + 2 + 2, "worst, folds, curves of all and of a subset, training"


@needs_browser
def test_folds_on_a_phone(folds, tmp_path):
    assert_fits(shown(folds, tmp_path, 390))


def test_features_of_a_frozen_encoder(tmp_path):
    random = np.random.default_rng(0)
    rows = [
        {"case": f"c{n}", "fold": n % 3, "label": n % 2, "features": random.normal(n % 2, 0.5, 6).astype(np.float32)}
        for n in range(18)
    ]
    NeighborTable(rows, 3).write(tmp_path, resamples=99)
    page = checked(report_folder(ROOM, tmp_path, bundle_of(ROOM)))
    assert "3 nearest neighbors among the cases of the other folds." in page.text
    assert "AUROC by share of neighbors" in page.text
    assert "mean over folds" in page.text
    assert len(page.pictures) == 1


def test_markers_of_new_examinations(tmp_path):
    items = [
        {"case": name, "pred": torch.tensor([0.0, logit])}
        for name, logit in (("sure", 5.0), ("unsure", 0.2), (HOSTILE, -2.0))
    ]
    evaluated([SaveProbabilities(tmp_path / "markers.csv", NAMES, name_key="case")], items)
    values = np.random.default_rng(0).random((12, 14, 10)).astype(np.float32)
    draw_map(values, head(0)[3].numpy(), tmp_path / "maps" / "unsure_map.png", title="unsure")
    page = checked(report_folder(ROOM, tmp_path, bundle_of(ROOM)))
    assert "cases 3 called mutant 2 called wild type 1" in page.text
    assert "probability 0.550, called mutant" in page.text
    assert page.text.index("unsure 0.550") < page.text.index(HOSTILE) < page.text.index("sure 0.993")
    assert len(page.pictures) == 1


def test_losses_of_an_autoencoder(tmp_path):
    write_csv([{"case": "a", "loss": 0.5}, {"case": HOSTILE, "loss": 2.5}], tmp_path / "losses.csv")
    (tmp_path / "losses.json").write_text('{"value": 1.5, "low": 0.5, "high": 2.5, "level": 0.9, "cases": 2}')
    page = checked(report_folder(ROOM, tmp_path, bundle_of(ROOM)))
    assert "1.500 90 % interval 0.500 to 2.500 2 cases" in page.text
    assert page.text.index(f"{HOSTILE} 2.5000") < page.text.index("a 0.5000")


def test_broken_results_are_named(tmp_path):
    (tmp_path / "folds.json").write_text("{")
    with pytest.raises(DataError, match=r"folds\.json: cannot be read"):
        report_folder(ROOM, tmp_path, bundle_of(ROOM))


def test_slices_go_through_the_brightest_part():
    assert brightest_part(head(0)[3].numpy(), share=0.01) == (7, 9, 4)
