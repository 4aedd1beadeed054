import shutil

import numpy as np
import pytest
import torch

from custom_apps.common.errors import DataError
from custom_apps.seg.experiment import Experiment
from custom_apps.seg.patch_sampling import PatchDataset
from custom_apps.seg.prepare import prepare_dataset
from custom_apps.seg.prepared import CasePaths
from custom_apps.seg.pretraining import PretrainingExperiment, held_out_images
from custom_apps.seg.unlabeled import UnlabeledImages, image_pool, prepare_unlabeled
from custom_networks.published.umamba_transfer import transfer
from tests.seg.raw_data import raw_dataset, volume, write

SMALL = {"batch_size": 2, "patch_size": [4, 8, 8], "first_features": 4}


@pytest.fixture
def data(tmp_path):
    folder = raw_dataset(tmp_path)
    for number in range(3):
        write(volume(10 + number)[0], folder / "unlabeledTr" / f"case_{number}_0000.nii.gz")
    return folder


def test_images_are_prepared_like_those_with_labels(data, tmp_path):
    prepared = prepare_dataset(data, tmp_path / "prepared", overrides=SMALL)
    pool = image_pool(data, prepared, labeled=["case_1"])
    assert pool.cases == ["case_1", *(f"unlabeledTr/case_{i}" for i in range(3))]
    case = pool.load("unlabeledTr/case_2")
    assert case.image.dtype == np.float32
    assert set(np.unique(case.seg)) <= {-1, 0}
    assert all(len(rows) == 0 for rows in case.locations.values())
    np.testing.assert_array_equal(pool.load("case_1").image, prepared.load("case_1").image)
    assert prepared.cases == prepare_dataset(data, tmp_path / "prepared", overrides=SMALL).cases
    dataset = PatchDataset(pool, pool.cases, iterations=4, training=False, oversample_foreground=0)
    assert {dataset[i]["image"].shape for i in range(8)} == {(1, 4, 8, 8)}


def test_a_second_preparation_reads_nothing_and_a_stale_one_is_refused(data, tmp_path):
    prepared = prepare_dataset(data, tmp_path / "prepared", overrides=SMALL)
    folder = prepare_unlabeled(data, prepared)
    paths = CasePaths(folder, "case_0")
    before = paths.image.stat().st_mtime_ns
    paths.properties.unlink()
    assert prepare_unlabeled(data, prepared) == folder
    assert paths.image.stat().st_mtime_ns > before, "a case that was not complete is prepared again"
    before = paths.image.stat().st_mtime_ns
    prepare_unlabeled(data, prepared)
    assert paths.image.stat().st_mtime_ns == before
    write(volume(99)[0], data / "unlabeledTr" / "case_1_0000.nii.gz", spacing_zyx=(2.0, 1.0, 1.0))
    with pytest.raises(DataError, match=r"unlabeledTr: was prepared before 1 files .*case_1_0000"):
        prepare_unlabeled(data, prepared)


def test_unusable_folders(data, tmp_path):
    prepared = prepare_dataset(data, tmp_path / "prepared", overrides=SMALL)
    with pytest.raises(DataError, match=r"imagesTs: no such folder"):
        image_pool(data, prepared, ["imagesTs"])
    with pytest.raises(DataError, match=r"no images without labels"):
        image_pool(data, prepared, [])
    path = data / "unlabeledTr" / "case_0_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"case_0_0000\.nii\.gz"):
        prepare_unlabeled(data, prepared)
    with pytest.raises(DataError, match="no case 'x'"):
        image_pool(data, prepared, [], prepared.cases).load("x")
    assert UnlabeledImages(data).cases[0].label is None


def test_pretraining_uses_all_images_and_restores_channels(tmp_path):
    data = raw_dataset(tmp_path, channels=2)
    write(volume(7)[0], data / "unlabeledTr" / "x_0000.nii.gz")
    write(volume(8)[0], data / "unlabeledTr" / "x_0001.nii.gz")
    options = {"prepared_dir": tmp_path / "prepared", "overrides": SMALL, "validation_share": 0.3}
    experiment = PretrainingExperiment(data, **options)
    assert len(experiment.val_cases) == 1
    assert not set(experiment.train_cases) & set(experiment.val_cases)
    assert sorted(experiment.train_cases + experiment.val_cases) == [
        "case_0",
        "case_1",
        "case_2",
        "unlabeledTr/x",
    ]
    network = experiment.network()
    assert network.decoder.heads[-1].out_channels == 2
    everything = PretrainingExperiment(data, **options, all_data=True, folders=[])
    assert everything.train_cases == ["case_0", "case_1", "case_2"]


def test_held_out_images():
    names = [f"n{i:02d}" for i in range(20)]
    train, val = held_out_images(names, 0.1, 1)
    assert len(val) == 2
    assert sorted(train + val) == names
    assert held_out_images(names[::-1], 0.1, 1) == (train, val), "the order of names does not matter"
    assert held_out_images(names, 0.1, 2) != (train, val)
    with pytest.raises(ValueError, match="at least two"):
        held_out_images(["a"], 0.1, 0)


def test_a_data_set_without_any_label_is_planned_by_its_images(tmp_path):
    data = raw_dataset(tmp_path)
    options = {"prepared_dir": tmp_path / "prepared", "configuration": "3d_fullres"}
    shutil.rmtree(data / "labelsTr")
    experiment = PretrainingExperiment(data, **options, overrides=SMALL)
    assert experiment.pool.cases == ["case_0", "case_1", "case_2"]
    statistics = experiment.prepared.plans.foreground_intensity_properties_per_channel["0"]
    assert 10 <= statistics["min"] < statistics["max"]
    experiment.model(tmp_path / "model").write()

    labeled = raw_dataset(tmp_path / "labeled")
    with pytest.raises(DataError, match="was prepared before 6 files"):
        Experiment(labeled, **options, overrides=SMALL)
    same_plan = Experiment(
        labeled, tmp_path / "other", fold="all", plans_file=tmp_path / "model" / "plans.json", network_name="UMambaEnc"
    )
    assert same_plan.configuration.patch_size == SMALL["patch_size"]
    assert same_plan.configuration.strides == experiment.configuration.strides
    assert type(same_plan.network()).__name__ == "UMambaEnc"


@pytest.mark.parametrize(
    ("network_name", "planner"), [("UMambaBot", "v2.1"), ("UMambaEnc", "v2.1"), ("UMamba2", "resenc_m")]
)
def test_every_network_restores_the_channels_and_hands_over(tmp_path, network_name, planner):
    data = raw_dataset(tmp_path, channels=2)
    options = {"planner": planner, "network_name": network_name, "overrides": SMALL}
    experiment = PretrainingExperiment(data, tmp_path / "prepared", **options)
    autoencoder = experiment.network()
    image = torch.rand(1, 2, *SMALL["patch_size"])
    assert autoencoder(image).shape == image.shape
    network = Experiment(data, tmp_path / "prepared", fold="all", **options).network()
    report = transfer(autoencoder.state_dict(), network)
    assert report.kept
    assert all(key.startswith("decoder.heads.") for key in report.kept)
