import csv

import numpy as np
import pytest
import tifffile
from PIL import Image

from custom_apps.common.errors import DataError
from custom_apps.seg.evaluation_cells import evaluate_cells


def instances(places, shape=(40, 50), edge=6):
    image = np.zeros(shape, np.uint16)
    for number, (row, column) in enumerate(places, 1):
        image[row : row + edge, column : column + edge] = number
    return image


@pytest.fixture
def folders(tmp_path):
    predictions, references = tmp_path / "pred", tmp_path / "ref"
    predictions.mkdir()
    references.mkdir()
    truth = {"x": [(5, 5), (20, 20), (0, 30)], "y": [(10, 10)]}
    found = {"x": [(5, 5), (28, 40)], "y": []}
    for case in truth:
        tifffile.imwrite(references / f"{case}_label.tiff", instances(truth[case]))
        Image.fromarray((instances(found[case]) > 0).astype(np.uint8)).save(predictions / f"{case}.png")
    return predictions, references


def test_images_are_scored_by_instances(folders, tmp_path):
    table = evaluate_cells(*folders, tmp_path / "scores", thresholds=(0.5, 0.9))
    with open(tmp_path / "scores" / "cells-0.5.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["case"], r["true_num"], r["pred_num"], r["TP"], r["FN"], r["FP"]) for r in rows] == [
        ("x", "2", "2", "1", "1", "1"),
        ("y", "1", "0", "0", "1", "0"),
    ]
    assert float(rows[0]["F1"]) == 0.5
    assert (tmp_path / "scores" / "cells-0.9.csv").is_file()
    assert "0.250" in table


def test_instances_at_the_border_count_when_asked(folders, tmp_path):
    evaluate_cells(*folders, tmp_path, count_boundary=True)
    with open(tmp_path / "cells-0.5.csv", newline="") as file:
        assert next(csv.DictReader(file))["true_num"] == "3"


def test_files_that_do_not_fit_are_named(folders):
    predictions, references = folders
    (predictions / "x.png").rename(predictions / "z.png")
    with pytest.raises(DataError, match=r"x.png: prediction is missing"):
        evaluate_cells(*folders)
    (references / "x_label.tiff").unlink()
    with pytest.raises(DataError, match=r"z.png: prediction has no reference"):
        evaluate_cells(*folders)
    (predictions / "z.png").unlink()
    tifffile.imwrite(references / "y_label.tiff", instances([], (41, 50)))
    with pytest.raises(DataError, match=r"y.png: shape is \(40, 50\)"):
        evaluate_cells(*folders)
    (references / "y_label.tiff").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"y_label.tiff: cannot be read"):
        evaluate_cells(*folders)
    with pytest.raises(DataError, match="no instance maps"):
        evaluate_cells(predictions, predictions)
