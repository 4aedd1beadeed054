import numpy as np
import pytest

from custom_apps.common.prediction_summary import read_rows
from custom_apps.seg.structure_volumes import SaveVolumes, structures_of
from tests.seg.model_phantom import model

REGIONS = {"background": 0, "tumor": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def test_structures_and_regions():
    assert structures_of(model()) == {"liver": (1,), "kidney": (2,)}
    regions = model(labels=REGIONS, regions_class_order=[1, 2, 3])
    assert structures_of(regions) == {"tumor": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    imported = model(label_map={"output_ids": {"2": 7}})
    assert structures_of(imported) == {"liver": (1,), "kidney": (2,)}
    assert structures_of(imported, restored=True) == {"liver": (1,), "kidney": (7,)}


def test_volumes_of_regions_overlap_and_pictures_have_none(tmp_path):
    save = SaveVolumes(tmp_path / "volumes.csv", model(labels=REGIONS, regions_class_order=[1, 2, 3]))
    labels = np.array([[[1, 1, 2, 3, 0]]])
    save.add("b", labels, {"spacing": [2.0, 5.0, 1.0], "sitk": {"spacing": [1.0, 5.0, 2.0]}})
    save.add("a", labels, {"spacing": [999.0, 1.0, 1.0]})
    save._write()
    rows = read_rows(tmp_path / "volumes.csv")
    assert [(row["case"], row["structure"], row["voxels"]) for row in rows[:2]] == [
        ("a", "tumor", "4"),
        ("a", "core", "2"),
    ]
    assert rows[0]["volume_ml"] == ""
    assert [float(row["volume_ml"]) for row in rows[3:]] == pytest.approx([0.04, 0.02, 0.01])
    again = SaveVolumes(tmp_path / "volumes.csv", model(labels=REGIONS, regions_class_order=[1, 2, 3]))
    again._begin()
    again.add("b", labels * 0, {"spacing": [1, 1, 1]})
    again._write()
    assert [row["voxels"] for row in read_rows(tmp_path / "volumes.csv")] == ["4", "2", "1", "0", "0", "0"]
