"""Challenge recipes of ``umamba_seg``: their plans, and each from a distributed data set to predictions on phantoms."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
import yaml

from custom_apps.cli import main
from custom_apps.seg.fingerprint import Fingerprint
from custom_apps.seg.import_layouts import STSR_CLASSES
from custom_apps.seg.label_maps import open_label_map
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.network import build_network, with_network
from custom_apps.seg.phantom_cbct import write_stsr_phantom, write_toothfairy3_phantom
from custom_apps.seg.planner import plan
from custom_apps.seg.toothfairy3 import CHALLENGE_IDS
from tests.bundles.bundle_cli import ROOT, bundle_command, run

CONFIGS = ROOT / "bundles" / "umamba_seg" / "configs"
TINY = {
    "plan_overrides": {"batch_size": 1, "patch_size": [16, 16, 24], "first_features": 4, "max_stages": 3},
    "iterations": 4,
    "val_iterations": 2,
    "num_workers": 0,
}
STSR_LABELS = {"background": 0, **{name: id_ for id_, name in enumerate(STSR_CLASSES, start=1)}}


def config(*names):
    return [CONFIGS / f"{name}.yaml" for name in names]


def places(folder, data):
    return {
        "dataset_dir": data,
        "prepared_dir": folder / "prepared",
        "ckpt_dir": folder / "models",
        "output_dir": folder / "eval",
    }


@pytest.mark.parametrize(
    ("recipe", "labels", "mixer", "patch", "parameters"),
    [
        ("toothfairy3_task1", None, "mamba2", [160, 288, 288], 141_865_746),
        ("toothfairy3_task2", None, "mamba2_cross_click2", [160, 288, 288], 144_779_850),
        ("stsr2025", STSR_LABELS, "mamba2", [160, 256, 256], 142_134_662),
    ],
)
def test_plans_give_the_published_networks(recipe, labels, mixer, patch, parameters):
    labels = LabelManager(labels or open_label_map(recipe).labels)
    content = yaml.safe_load((CONFIGS / f"{recipe}.yaml").read_text())
    fingerprint = Fingerprint([[0.3] * 3] * 4, [[300, 400, 400]] * 4, 1.0, {"0": {}})
    dataset = SimpleNamespace(
        name="a", channel_names=["CBCT"], labels=labels, num_training=400, reader_name="SimpleITKIO"
    )
    plans = plan(fingerprint, dataset, "resenc_l_torchres", None, {"3d_fullres": content["plan_overrides"]})
    configuration = with_network(plans.configuration("3d_fullres"), "UMamba2", mixer=mixer)
    assert (configuration.patch_size, configuration.batch_size) == (patch, 1)
    assert configuration.resampling_fn_data == "resample_torch_fornnunet"
    assert configuration.normalization_schemes == ["CTNormalization"]
    with torch.device("meta"):
        network = build_network(configuration, 1, labels.num_segmentation_heads, deep_supervision=True)
    assert sum(values.numel() for values in network.parameters()) == parameters


@pytest.fixture(scope="module")
def toothfairy3(tmp_path_factory):
    return write_toothfairy3_phantom(tmp_path_factory.mktemp("raw"), cases=5, size=24)


@pytest.fixture(scope="module")
def task1(toothfairy3, tmp_path_factory):
    """A folder with the imported data set and a model trained with every option of the recipe."""
    folder = tmp_path_factory.mktemp("task1")
    data = folder / "Dataset119_ToothFairy3"
    assert main(["prepare", "umamba_seg", str(toothfairy3), str(data), "--label-map", "toothfairy3_task1"]) == 0
    options = TINY | {"epochs": 2, "component_percentile": 0.5, "fold": 0}
    run(bundle_command(config("train", "u_mamba2", "toothfairy3_task1"), **places(folder, data), **options))
    return folder


def test_task1_trains_with_sides_soft_targets_and_weights(task1):
    with open(task1 / "eval" / "metrics.csv", newline="") as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    model = json.loads((task1 / "models" / "model.json").read_text())
    assert len(model["left_right_pairs"]) == 19
    fitted = json.loads((task1 / "models" / "component_filter.json").read_text())["thresholds_mm3"]
    assert {"1", "3", "4", "46"} <= set(fitted)
    assert all(threshold > 0 for threshold in fitted.values())


def test_task1_is_evaluated_by_the_challenge_measures(task1):
    names = ("train", "u_mamba2", "evaluate", "toothfairy3_task1")
    data = task1 / "Dataset119_ToothFairy3"
    options = TINY | {"fold": 0, "component_filter": "model"}
    run(bundle_command(config(*names), **places(task1, data), **options))
    summary = json.loads((task1 / "eval" / "validation" / "summary.json").read_text())
    assert len(summary["label_names"]) == 46
    assert {"Dice", "hd95_mm"} <= set(summary["foreground_mean"])
    assert "challenge convention" in summary["protocol"]


def test_task1_predicts_the_ids_of_a_submission_in_the_geometry_of_the_image(task1):
    images = task1 / "Dataset119_ToothFairy3" / "imagesTr"
    run(
        bundle_command(
            config("inference", "toothfairy3_task1"),
            dataset_dir=images,
            ckpt_dir=task1 / "models",
            output_dir=task1 / "out",
            component_filter="None",
        )
    )
    found = set()
    for path in sorted((task1 / "out").glob("*.nii.gz")):
        prediction, image = nibabel.load(path), nibabel.load(images / path.name.replace(".nii.gz", "_0000.nii.gz"))
        assert prediction.shape == image.shape
        np.testing.assert_allclose(prediction.affine, image.affine, atol=1e-5)
        found |= set(np.unique(np.asarray(prediction.dataobj)).tolist())
    assert len(found) > 1
    assert found <= {0, *CHALLENGE_IDS.values()}
    assert any(id_ > 18 for id_ in found), "no predicted id differs between network and challenge, this shows nothing"


def test_task2_from_the_distributed_clicks_to_predictions(toothfairy3, tmp_path):
    data = tmp_path / "Dataset219_ToothFairy3"
    main(["prepare", "umamba_seg", str(toothfairy3), str(data), "--label-map", "toothfairy3_task2"])
    names = ("train", "u_mamba2", "interactive", "toothfairy3_task2")
    run(bundle_command(config(*names), **places(tmp_path, data), **TINY, epochs=1, fold=0))
    model = json.loads((tmp_path / "models" / "model.json").read_text())
    assert model["left_right_pairs"] == [[1, 2]]
    run(
        bundle_command(
            config("inference", "inference_interactive", "toothfairy3_task2"),
            dataset_dir=data / "imagesTr",
            ckpt_dir=tmp_path / "models",
            output_dir=tmp_path / "out",
        )
    )
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 5


def test_stsr_trains_on_its_split_with_unlabeled_images(tmp_path):
    raw, data = write_stsr_phantom(tmp_path, cases=2, test_cases=1, size=24, unlabeled=2), tmp_path / "Dataset319_STSR"
    assert main(["prepare", "umamba_seg", str(raw), str(data)]) == 0
    names = ("train", "u_mamba2", "semi_supervised", "stsr2025")
    options = TINY | {"unlabeled_share": 0.5, "median_edge": [2, 3]}
    run(bundle_command(config(*names), **places(tmp_path, data), **options, epochs=1))
    with open(tmp_path / "eval" / "metrics.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["train_labeled_loss"]) > 0
    splits = json.loads((tmp_path / "prepared" / data.name / "splits_final.json").read_text())
    assert splits[0]["val"] == ["STSR_Validation_000"]
    assert (tmp_path / "models" / "model.pt").is_file()
