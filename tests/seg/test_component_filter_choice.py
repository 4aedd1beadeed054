import numpy as np
import pytest
from ignite.engine import Engine

from custom_apps.common.errors import DataError
from custom_apps.seg.component_filter import ComponentFilter, fit_component_filter
from custom_apps.seg.component_filter_choice import (
    FILTER_FILE,
    ComponentFilterWriter,
    component_filter_of,
    toothfairy3_thresholds,
)
from custom_apps.seg.label_maps import open_label_map
from custom_apps.seg.raw_dataset import RawDataset
from custom_apps.seg.toothfairy3 import COMPONENT_VOXELS
from tests.seg.model_phantom import model
from tests.seg.raw_data import raw_dataset
from tests.seg.test_data_import import imported_model


class TwoCases:
    train_cases = ("case_0", "case_2")


def test_fitted_on_the_training_cases_and_applied(tmp_path):
    data = raw_dataset(tmp_path)
    run = Engine(lambda engine, batch: None)
    ComponentFilterWriter(TwoCases(), data, tmp_path / "m", percentile=100).attach(run)
    run.run([0])
    found = component_filter_of("model", model(tmp_path / "m"))
    dataset = RawDataset(data)
    cases = [case for case in dataset.training_cases if case.identifier in TwoCases.train_cases]
    labels = [dataset.read_label(case) for case in cases]
    expected = ComponentFilter.fit([(a[0], p["spacing"]) for a, p in labels], [1, 2], percentile=100)
    assert found.thresholds_mm3 == expected.thresholds_mm3
    segmentation = labels[0][0][0].copy()
    segmentation[0, 0, 0] = 1
    cleaned = found(segmentation, labels[0][1]["spacing"])
    assert cleaned[0, 0, 0] == 0
    assert (cleaned == 1).sum() == (segmentation == 1).sum() - 1


def test_a_filter_that_is_there_stays_and_none_is_fitted_without_a_percentile(tmp_path):
    data, run = raw_dataset(tmp_path), Engine(lambda engine, batch: None)
    ComponentFilterWriter(TwoCases(), data, tmp_path / "none", percentile=None).attach(run)
    ComponentFilter({1: 5.0}).write(tmp_path / "m" / FILTER_FILE)
    ComponentFilterWriter(TwoCases(), data, tmp_path / "m").attach(run)
    run.run([0])
    assert not (tmp_path / "none").exists()
    assert component_filter_of("model", model(tmp_path / "m")).thresholds_mm3 == {1: 5.0}


def test_a_case_of_another_fold_has_no_influence(tmp_path):
    data = raw_dataset(tmp_path)
    every = fit_component_filter(data, tmp_path / "a.json", percentile=0)
    one = fit_component_filter(data, tmp_path / "b.json", cases=["case_1"], percentile=0)
    assert set(every.thresholds_mm3) == set(one.thresholds_mm3) == {1, 2}


def test_published_thresholds_follow_the_label_map(tmp_path):
    task1 = toothfairy3_thresholds(imported_model(tmp_path, "toothfairy3_task1"))
    mapping = open_label_map("toothfairy3_task1")
    assert task1 == {
        label: COMPONENT_VOXELS[mapping.output_ids.get(label, label)]
        for label in range(1, 47)
        if mapping.output_ids.get(label, label) in COMPONENT_VOXELS
    }
    assert toothfairy3_thresholds(imported_model(tmp_path, "toothfairy3_task2")) == {1: 2198, 2: 1754}
    merged = toothfairy3_thresholds(imported_model(tmp_path, "toothfairy3_no_sides"))
    assert merged == {5: 71533, 6: 7211, 7: 5694, 2: 448.88}, "structures of two thresholds have none"
    found = component_filter_of("toothfairy3", imported_model(tmp_path, "toothfairy3_task2"), 26)
    assert found.thresholds_mm3[1] == pytest.approx(2198 * 0.027)
    assert found.connectivity == 26


def test_choices(tmp_path):
    assert component_filter_of(None, model(tmp_path)) is None
    ComponentFilter({2: 7.0}).write(tmp_path / "mine.json")
    assert component_filter_of(tmp_path / "mine.json", model(tmp_path)).thresholds_mm3 == {2: 7.0}
    with pytest.raises(DataError, match=r"component_filter\.json: is no component filter"):
        component_filter_of("model", model(tmp_path))
    with pytest.raises(DataError, match=r"dataset\.json: no label map of ToothFairy3"):
        component_filter_of("toothfairy3", model(tmp_path))
    assert np.array_equal(ComponentFilter({})(np.ones((2, 2, 2), int), (1, 1, 1)), np.ones((2, 2, 2)))
