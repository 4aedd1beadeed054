import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from custom_apps.common.errors import DataError
from custom_apps.seg import fingerprint, prepare
from custom_apps.seg.prepare import prepare_dataset
from custom_apps.seg.prepared import PreparedDataset
from custom_apps.seg.preprocessing import preprocess_case
from custom_apps.seg.raw_dataset import RawDataset
from tests.seg.raw_data import describe, raw_dataset, volume, write

SMALL_NETWORK = {"patch_size": [4, 8, 8], "batch_size": 2}


@pytest.fixture(autouse=True)
def _few_samples(monkeypatch):
    monkeypatch.setattr(
        prepare, "extract_fingerprint", lambda dataset, n: fingerprint.extract_fingerprint(dataset, n, 3000)
    )


@pytest.fixture
def raw(tmp_path):
    return raw_dataset(tmp_path / "raw", cases=5)


def state(folder):
    """Names, sizes and times of everything below a folder."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_everything_is_there(raw, tmp_path):
    found = prepare_dataset(raw, tmp_path / "prepared", overrides=SMALL_NETWORK)
    root = tmp_path / "prepared" / "Dataset007_Tiny"
    assert found.root == root
    assert found.cases == [f"case_{n}" for n in range(5)]
    assert found.configuration.patch_size == [4, 8, 8]
    assert found.labels.names == ["background", "organ", "lesion"]
    names = {path.name for path in root.iterdir() if path.name[0] != "."}
    files = {"dataset.json", "dataset_fingerprint.json", "plans.json", "preparation.json", "splits_final.json"}
    assert names == files | {"nnUNetPlans_3d_fullres"}
    assert {path.suffix for path in found.folder.iterdir()} == {".npy", ".npz", ".json"}
    assert len(list(found.folder.iterdir())) == 5 * 4
    train, val = found.fold(0)
    assert sorted(train + val) == found.cases


def test_arrays_are_those_of_preprocessing(raw, tmp_path):
    found = prepare_dataset(raw, tmp_path / "prepared")
    dataset = RawDataset(raw)
    for case in dataset.training_cases[:2]:
        image, properties = dataset.read_image(case)
        seg, _ = dataset.read_label(case)
        image, seg, properties = preprocess_case(image, seg, properties, found.plans, found.configuration)
        loaded = found.load(case.identifier)
        np.testing.assert_array_equal(loaded.image, image)
        np.testing.assert_array_equal(loaded.seg, seg)
        assert loaded.properties == properties
        for label in (1, 2):
            np.testing.assert_array_equal(
                loaded.seg[tuple(loaded.locations[label].T)], np.full(len(loaded.locations[label]), label)
            )


def test_second_call_touches_nothing(raw, tmp_path):
    first = prepare_dataset(raw, tmp_path / "prepared", overrides=SMALL_NETWORK)
    before = state(tmp_path / "prepared")
    second = prepare_dataset(raw, tmp_path / "prepared", overrides=SMALL_NETWORK)
    assert state(tmp_path / "prepared") == before
    assert second.plans == first.plans


def test_interrupted_preparation_goes_on(raw, tmp_path, monkeypatch):
    whole = prepare_dataset(raw, tmp_path / "whole")
    calls = []

    def stop_at_third(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return preprocess_case(*arguments)

    monkeypatch.setattr(prepare, "preprocess_case", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(raw, tmp_path / "prepared")
    folder = tmp_path / "prepared" / "Dataset007_Tiny" / "nnUNetPlans_3d_fullres"
    assert len(list(folder.glob("*.json"))) == 2
    done = state(folder)
    monkeypatch.setattr(prepare, "preprocess_case", preprocess_case)
    found = prepare_dataset(raw, tmp_path / "prepared")
    assert done.items() <= state(folder).items()
    assert not list(folder.glob(".*"))
    for case in found.cases:
        np.testing.assert_array_equal(found.load(case).image, whole.load(case).image)


def test_patch_and_batch_may_change_and_the_earlier_plan_is_kept(raw, tmp_path):
    first = prepare_dataset(raw, tmp_path / "prepared", overrides=SMALL_NETWORK)
    arrays = state(first.folder)
    second = prepare_dataset(raw, tmp_path / "prepared", overrides={"batch_size": 7}, planner="current")
    assert second.configuration.batch_size == 7
    assert first.configuration.batch_size == 2
    assert state(first.folder) == arrays
    (kept,) = first.root.glob("plans_*.json")
    assert json.loads(kept.read_text()) == first.plans.to_dict()
    assert PreparedDataset(first.root).configuration.batch_size == 7


@pytest.mark.parametrize(
    ("overrides", "named"),
    [({"spacing": [3.0, 2.0, 2.0]}, "spacing"), ({"normalization_schemes": ["NoNormalization"]}, "normalization")],
)
def test_other_arrays_are_refused(raw, tmp_path, overrides, named):
    prepare_dataset(raw, tmp_path / "prepared")
    before = state(tmp_path / "prepared")
    with pytest.raises(DataError, match=f"nnUNetPlans_3d_fullres: was prepared with another .*{named}"):
        prepare_dataset(raw, tmp_path / "prepared", overrides=overrides)
    assert state(tmp_path / "prepared") == before


def test_configurations_share_a_folder(raw, tmp_path):
    prepare_dataset(raw, tmp_path / "prepared", overrides=SMALL_NETWORK)
    flat = prepare_dataset(raw, tmp_path / "prepared", "2d")
    assert flat.configuration.spatial_dims == 2
    assert flat.folder.name == "nnUNetPlans_2d"
    assert flat.load("case_0").image.shape == (1, 4, 11, 9)


def _touch(raw):
    os.utime(raw / "imagesTr" / "case_3_0000.nii.gz", (1, 1))


def _add(raw):
    write(volume(9)[0], raw / "imagesTr" / "case_9_0000.nii.gz")
    write(volume(9)[1], raw / "labelsTr" / "case_9.nii.gz")


def _declare(raw):
    describe(raw, numTraining=5, labels={"background": 0, "organ": 1, "tumor": 2})


@pytest.mark.parametrize(
    ("change", "problem"),
    [(_touch, "1 files of the data set changed"), (_add, "2 files"), (_declare, "another dataset.json")],
)
def test_a_changed_data_set_is_refused(raw, tmp_path, change, problem):
    prepare_dataset(raw, tmp_path / "prepared")
    before = state(tmp_path / "prepared")
    change(raw)
    with pytest.raises(DataError, match=problem):
        prepare_dataset(raw, tmp_path / "prepared")
    assert state(tmp_path / "prepared") == before


def test_a_data_set_with_errors_is_refused(raw, tmp_path):
    image, _ = volume(1)
    image[2, 2, 2] = np.nan
    write(image, raw / "imagesTr" / "case_1_0000.nii.gz")
    with pytest.raises(DataError, match=r"(?s)has 1 errors.*imagesTr/case_1_0000\.nii\.gz.*NaN") as caught:
        prepare_dataset(raw, tmp_path / "prepared")
    assert caught.value.path == str(raw)
    assert not list((tmp_path / "prepared").rglob("*.json"))


def test_callers_at_the_same_time_wait_for_the_first(raw, tmp_path, monkeypatch):
    checks = []
    real = prepare.check_dataset
    monkeypatch.setattr(prepare, "check_dataset", lambda *a, **k: (checks.append(a), real(*a, **k))[1])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: prepare_dataset(raw, tmp_path / "prepared"), range(4)))
    assert len(checks) == 1
    assert len({tuple(item.cases) for item in found}) == 1


def test_own_splits_are_used(raw, tmp_path):
    split = [{"train": ["case_0", "case_1"], "val": ["case_4"], "unlabeled": []}]
    (raw / "splits_final.json").write_text(json.dumps(split))
    found = prepare_dataset(raw, tmp_path / "prepared")
    assert found.splits == split
    assert found.fold(0) == (["case_0", "case_1"], ["case_4"])


def test_few_cases_have_no_folds_but_a_split(tmp_path):
    found = prepare_dataset(raw_dataset(tmp_path / "raw", cases=3), tmp_path / "prepared")
    assert found.splits == []
    train, val = found.fold(0)
    assert (len(train), len(val)) == (2, 1)


def test_a_plan_of_another_origin(raw, tmp_path):
    plan = prepare_dataset(raw, tmp_path / "a").plans.to_dict() | {"plans_name": "foreign"}
    plan["configurations"]["3d_fullres"] |= {"spacing": [3.0, 2.0, 2.0], "data_identifier": "foreign_3d_fullres"}
    path = tmp_path / "nnUNetPlans.json"
    path.write_text(json.dumps(plan))
    found = prepare_dataset(raw, tmp_path / "b", plans_file=path, overrides={"batch_size": 3})
    assert found.configuration.spacing == [3.0, 2.0, 2.0]
    assert found.configuration.batch_size == 3
    assert found.folder.name == "foreign_3d_fullres"
    before = state(tmp_path / "b")
    prepare_dataset(raw, tmp_path / "b", plans_file=path, overrides={"batch_size": 3})
    assert state(tmp_path / "b") == before
    with pytest.raises(ValueError, match="not all items of a configuration"):
        prepare_dataset(raw, tmp_path / "b", plans_file=path, overrides={"batch": 3})


def test_processes_give_the_same_arrays(raw, tmp_path, monkeypatch):
    one = prepare_dataset(raw, tmp_path / "one", num_processes=1)
    monkeypatch.undo()
    monkeypatch.setattr(prepare, "extract_fingerprint", lambda dataset, n: fingerprint.Fingerprint.read(one_print))
    one_print = one.root / "dataset_fingerprint.json"
    two = prepare_dataset(raw, tmp_path / "two", num_processes=2)
    for case in one.cases:
        np.testing.assert_array_equal(one.load(case).image, two.load(case).image)
        np.testing.assert_array_equal(one.load(case).locations[1], two.load(case).locations[1])


def test_a_configuration_that_is_not_planned(raw, tmp_path):
    with pytest.raises(DataError, match="no configuration '3d_huge'"):
        prepare_dataset(raw, tmp_path / "prepared", "3d_huge")


def test_room_on_the_disk_is_asked_for_first(raw, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(prepare, "require_space", lambda path, needed, purpose: asked.append(needed))
    found = prepare_dataset(raw, tmp_path / "prepared", overrides=SMALL_NETWORK)
    written = sum(path.stat().st_size for path in found.folder.glob("*.npy"))
    assert asked == [pytest.approx(written, abs=200 * 2 * len(found.cases))], "but for the headers"

    def full(path, needed, purpose):
        raise DataError(path, "no room")

    monkeypatch.setattr(prepare, "require_space", full)
    with pytest.raises(DataError, match="no room"):
        prepare_dataset(raw, tmp_path / "other", overrides=SMALL_NETWORK)
    assert not list((tmp_path / "other").rglob("*.npy"))
