import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom_apps.common.errors import DataError
from custom_apps.seg.component_filter import (
    ComponentFilter,
    FilterComponentsd,
    component_volumes_mm3,
    fit_component_filter,
)
from custom_apps.seg.largest_component import ComponentRules
from tests.seg.model_phantom import model, write_case


def blobs(*boxes, shape=(12, 20, 20)):
    labels = np.zeros(shape, np.int16)
    for label, corner, edge in boxes:
        labels[tuple(slice(c, c + edge) for c in corner)] = label
    return labels


SCENE = blobs((1, (1, 1, 1), 4), (1, (8, 10, 10), 2), (2, (1, 10, 10), 3), (1, (7, 1, 15), 1))


def test_volumes_are_in_cubic_millimetres():
    assert sorted(component_volumes_mm3(SCENE, 1, (2.0, 0.5, 0.5))) == pytest.approx([0.5, 4.0, 32.0])
    assert len(component_volumes_mm3(SCENE, 3, (1, 1, 1))) == 0


def test_connectivity_counts():
    diagonal = np.zeros((3, 3, 3), int)
    diagonal[0, 0, 0] = diagonal[0, 1, 1] = diagonal[1, 2, 2] = 1
    assert [len(component_volumes_mm3(diagonal, 1, (1, 1, 1), c)) for c in (6, 18, 26)] == [3, 2, 1]
    with pytest.raises(ValueError, match="connectivity must be one of 6, 18, 26"):
        ComponentFilter({1: 2.0}, connectivity=8)


def test_small_components_go_and_others_stay():
    kept = ComponentFilter({1: 8.0})(SCENE, (1, 1, 1))
    assert np.array_equal(kept, blobs((1, (1, 1, 1), 4), (1, (8, 10, 10), 2), (2, (1, 10, 10), 3)))
    kept = ComponentFilter({1: 8.1, 2: 27.5, 9: 5.0})(SCENE, (1, 1, 1))
    assert np.array_equal(kept, blobs((1, (1, 1, 1), 4)))
    assert np.array_equal(ComponentFilter({1: 8.1})(SCENE, (2, 1, 1)), ComponentFilter({1: 8.0})(SCENE, (1, 1, 1)))


def test_a_whole_class_stays_or_goes():
    total = 64 + 8 + 1
    assert np.array_equal(ComponentFilter({1: total}, whole_class=True)(SCENE, (1, 1, 1)), SCENE)
    gone = ComponentFilter({1: total + 0.5}, whole_class=True)(SCENE, (1, 1, 1))
    assert np.array_equal(gone, np.where(SCENE == 1, 0, SCENE))


def test_thresholds_are_percentiles_of_the_training_components():
    fitted = ComponentFilter.fit([(SCENE, (1, 1, 1)), (SCENE, (2, 1, 1))], [1, 2, 3], percentile=50)
    assert fitted.thresholds_mm3 == {1: np.median([64, 8, 1, 128, 16, 2]), 2: np.median([27, 54])}
    whole = ComponentFilter.fit([(SCENE, (1, 1, 1))], [1], percentile=0, whole_class=True)
    assert whole.thresholds_mm3 == {1: 73.0}


def test_published_thresholds_are_voxels_of_a_known_spacing():
    voxels = ComponentFilter.from_voxels({1: 1000}, (0.3, 0.3, 0.3), connectivity=26)
    assert voxels.thresholds_mm3[1] == pytest.approx(27.0)
    assert voxels.connectivity == 26


def test_files(tmp_path):
    ComponentFilter({1: 8.0, 12: 0.25}, 26, True).write(tmp_path / "filter.json")
    read = ComponentFilter.read(tmp_path / "filter.json")
    assert (read.thresholds_mm3, read.connectivity, read.whole_class) == ({1: 8.0, 12: 0.25}, 26, True)
    (tmp_path / "broken.json").write_text('{"thresholds_mm3": 3}')
    for name in ("broken.json", "missing.json"):
        with pytest.raises(DataError, match=f"{name}: is no component filter"):
            ComponentFilter.read(tmp_path / name)


def test_fitting_on_a_data_set(tmp_path):
    for case in "ab":
        write_case(tmp_path, case, SCENE.astype(np.uint8))
    for split in ("images", "labels"):
        (tmp_path / f"{split}Ts").rename(tmp_path / f"{split}Tr")
    (tmp_path / "dataset.json").write_text(json.dumps(model().dataset_json))
    fitted = fit_component_filter(tmp_path, tmp_path / "filter.json", percentile=100)
    assert fitted.thresholds_mm3 == {1: 128.0, 2: 54.0}
    assert ComponentFilter.read(tmp_path / "filter.json").thresholds_mm3 == fitted.thresholds_mm3


def test_as_a_transform_it_keeps_the_geometry(tmp_path):
    ComponentFilter({1: 8.0}).write(tmp_path / "filter.json")
    data = {
        "pred": MetaTensor(torch.from_numpy(SCENE)[None], affine=np.diag([3.0, 2, 1, 1])),
        "properties": json.dumps({"spacing": [1, 1, 1]}),
    }
    found = FilterComponentsd("pred", tmp_path / "filter.json")(data)["pred"]
    assert np.array_equal(found[0].numpy(), ComponentFilter({1: 8.0})(SCENE, (1, 1, 1)))
    assert torch.equal(found.affine, data["pred"].affine)
    assert data["pred"].sum() > found.sum(), "the input is left alone"
    rules = FilterComponentsd("pred", ComponentRules([[1]]))(data)["pred"]
    assert np.array_equal(rules[0].numpy(), blobs((1, (1, 1, 1), 4), (2, (1, 10, 10), 3)))
    with pytest.raises(ValueError, match="needs a component_filter"):
        FilterComponentsd("pred")


def test_an_image_in_monai_order_is_measured_with_its_own_axes():
    thin = np.zeros((6, 6, 6), np.int16)
    thin[2, 2, 2] = 1
    properties = json.dumps({"spacing": [4, 1, 1], "monai_order": True})
    seen = []
    FilterComponentsd("pred", lambda labels, spacing: seen.append(spacing) or labels)(
        {"pred": torch.from_numpy(thin)[None], "properties": properties}
    )
    assert seen == [[1, 1, 4]]
