"""``umamba_seg`` end to end on phantom data, run as a user types it."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from custom_apps.common.report_command import report_folder
from custom_apps.seg.phantom_cells import write_cell_phantom
from custom_apps.seg.phantom_ct import write_ct_phantom
from custom_apps.seg.room import ROOM
from tests.bundles.bundle_cli import ROOT, bundle_command, run, start, torchrun_command
from tests.common.report_page import checked

BUNDLE = ROOT / "bundles" / "umamba_seg"
CONFIGS = BUNDLE / "configs"
SMALL = {
    "plan_overrides": {"batch_size": 2, "patch_size": [16, 24, 24], "first_features": 4},
    "iterations": 3,
    "val_iterations": 2,
    "val_interval": 1,
}


def config(*names: str) -> list[Path]:
    return [CONFIGS / f"{name}.yaml" for name in names]


def places(folder: Path, data: Path) -> dict[str, Path]:
    return {
        "dataset_dir": data,
        "prepared_dir": folder / "prepared",
        "ckpt_dir": folder / "models",
        "output_dir": folder / "eval",
    }


def log_rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "eval" / "metrics.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def ct(tmp_path_factory) -> Path:
    return write_ct_phantom(tmp_path_factory.mktemp("data"), cases=6, test_cases=3, shape=(18, 26, 28))


@pytest.fixture(scope="module")
def trained(ct, tmp_path_factory) -> Path:
    """A folder with a model of three short epochs, trained without interruption."""
    folder = tmp_path_factory.mktemp("trained")
    run(bundle_command(config("train", "demo"), **places(folder, ct), **SMALL, epochs=3))
    return folder


def test_training_leaves_model_log_figures_and_record(trained):
    rows = log_rows(trained)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert {"val_pseudo_dice", "val_pseudo_dice_liver", "lr"} <= set(rows[0])
    assert (trained / "eval" / "figures" / "training_curves.png").stat().st_size > 5000
    assert json.loads((trained / "eval" / "run.json").read_text())["outcome"] == "completed"
    for name in ("model.pt", "model_final.pt"):
        weights = torch.load(trained / "models" / name, weights_only=True)
        assert all(isinstance(value, torch.Tensor) for value in weights.values())


def test_killed_training_goes_on_with_the_same_numbers(trained, ct, tmp_path):
    shutil.copytree(trained / "prepared", tmp_path / "prepared")
    command = bundle_command(config("train", "demo"), **places(tmp_path, ct), **SMALL, epochs=3)
    process, state = start(command), tmp_path / "models" / "last.pt"
    deadline = time.monotonic() + 200
    while not state.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert state.is_file(), "no checkpoint before the kill"
    assert not (tmp_path / "models" / "model_final.pt").exists(), "the run was over before the kill"

    assert "resumed" in run(command)
    ours, theirs = log_rows(tmp_path), log_rows(trained)
    for column in ("epoch", "train_loss", "lr", "val_pseudo_dice_average"):
        assert [row[column] for row in ours] == [row[column] for row in theirs], column
    weights = [torch.load(f / "models" / "model_final.pt", weights_only=True) for f in (tmp_path, trained)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[1])


def test_checkpoint_of_another_network_is_refused_and_kept(trained, ct):
    before = {path.name: path.read_bytes() for path in (trained / "models").iterdir()}
    output = run(
        bundle_command(config("train", "demo"), **places(trained, ct), **SMALL, epochs=4, mixer="none"), succeed=False
    )
    assert "last.pt" in output
    assert "belongs to another network" in output
    assert {path.name: path.read_bytes() for path in (trained / "models").iterdir()} == before


def test_unusable_data_end_in_one_line_that_names_the_file(ct, tmp_path):
    data = shutil.copytree(ct, tmp_path / "data")
    broken = data / "imagesTr" / "phantom_tr_002_0000.nii.gz"
    broken.write_bytes(broken.read_bytes()[:500])
    output = run(bundle_command(config("train", "demo"), **places(tmp_path, data), **SMALL, epochs=1), succeed=False)
    message = output[output.rindex("error: ") :]
    assert broken.name in message
    assert "truncated" in message
    assert "Traceback" not in output
    assert not (tmp_path / "models").exists()


def test_evaluation_on_test_cases(trained, ct):
    output = run(bundle_command(config("train", "demo", "evaluate"), **places(trained, ct), part="test"))
    assert "scores of 3 cases" in output
    results = trained / "eval" / "test"
    summary = json.loads((results / "summary.json").read_text())
    assert [entry["case"] for entry in summary["metric_per_case"]] == [f"phantom_ts_{i:03d}" for i in range(3)]
    assert "95 %" in (results / "structures.md").read_text(encoding="utf-8")
    assert (results / "figures" / "overlays.png").stat().st_size > 5000
    reference = nibabel.load(ct / "labelsTs" / "phantom_ts_001.nii.gz")
    predicted = nibabel.load(results / "predictions" / "phantom_ts_001.nii.gz")
    assert predicted.shape == reference.shape
    np.testing.assert_allclose(predicted.affine, reference.affine, atol=1e-5)
    # The table's Dice is that of the files written.
    truth, ours = np.asarray(reference.dataobj), np.asarray(predicted.dataobj)
    entry = summary["metric_per_case"][1]["metrics"]["1"]
    overlap = ((truth == 1) & (ours == 1)).sum()
    assert entry["Dice"] == pytest.approx(2 * overlap / ((truth == 1).sum() + (ours == 1).sum()), abs=1e-6)
    page = checked(report_folder(ROOM, results, BUNDLE, overwrite=True))
    assert len(page.pictures) == 3 + 1 + 1, "worst cases, overlays, training"
    assert "model.pt, SHA-256" in page.text
    assert "Synthetic data" in page.text


def test_prediction_from_the_bundle_folder_and_earlier_results_are_safe(trained, ct, tmp_path):
    options = {"dataset_dir": ct / "imagesTs", "ckpt_dir": trained / "models", "output_dir": tmp_path}
    command = bundle_command(["configs/inference.yaml"], **options)
    run(command, cwd=BUNDLE)
    written = sorted(path.name for path in tmp_path.glob("*.nii.gz"))
    assert written == [f"phantom_ts_{i:03d}.nii.gz" for i in range(3)]
    assert np.asarray(nibabel.load(tmp_path / written[0]).dataobj).dtype == np.uint8
    content = (tmp_path / written[0]).read_bytes()
    assert "was predicted before" in run(command, cwd=BUNDLE, succeed=False)
    assert (tmp_path / written[0]).read_bytes() == content
    page = checked(report_folder(ROOM, tmp_path, BUNDLE))
    assert len(page.pictures) == 3
    assert "inference.yaml" in page.text
    assert "case liver spleen kidneys aorta" in page.text


def test_two_dimensional_colour_images(tmp_path):
    data = write_cell_phantom(tmp_path / "data", cases=5, test_cases=2, shape=(40, 52))
    overrides = {"batch_size": 2, "patch_size": [32, 32], "first_features": 8}
    options = places(tmp_path, data) | SMALL | {"plan_overrides": overrides, "configuration": "2d"}
    run(bundle_command(config("train", "demo"), **options, epochs=1, network_name="UMambaEnc"))
    run(
        bundle_command(
            config("inference"),
            dataset_dir=data / "imagesTs",
            ckpt_dir=tmp_path / "models",
            output_dir=tmp_path / "out",
            mirror_axes=[0, 1],
        )
    )
    for path in sorted((data / "imagesTs").glob("*.png")):
        predicted = Image.open(tmp_path / "out" / path.name.replace("_0000", ""))
        assert predicted.size == Image.open(path).size
        assert set(np.unique(predicted)) <= {0, 1, 2}


def test_two_processes_train_and_score_as_one(trained, ct, tmp_path):
    shutil.copytree(trained / "prepared", tmp_path / "prepared")
    options = places(tmp_path, ct)
    run(torchrun_command(2, bundle_command(config("train", "demo", "multi_gpu"), **options, **SMALL, epochs=3)))
    for ours, theirs in zip(log_rows(tmp_path), log_rows(trained), strict=True):
        assert float(ours["train_loss"]) == pytest.approx(float(theirs["train_loss"]), abs=2e-3)

    evaluate = {"part": "test", **places(trained, ct), "output_dir": tmp_path / "eval"}
    run(torchrun_command(2, bundle_command(config("train", "demo", "evaluate", "multi_gpu"), **evaluate)))
    run(bundle_command(config("train", "demo", "evaluate"), **evaluate | {"output_dir": tmp_path / "alone"}))
    two, one = (
        json.loads((tmp_path / name / "test" / "summary.json").read_text())["metric_per_case"]
        for name in ("eval", "alone")
    )
    assert [entry["metrics"] for entry in two] == [entry["metrics"] for entry in one]


def test_folds_and_their_ensemble(trained, ct, tmp_path):
    folders = [trained / "models", tmp_path / "models"]
    shutil.copytree(trained / "prepared", tmp_path / "prepared")
    run(bundle_command(config("train", "demo"), **places(tmp_path, ct), **SMALL, epochs=1, fold=1))
    assert json.loads((folders[1] / "model.json").read_text())["fold"] == 1
    run(
        bundle_command(
            config("inference", "ensemble"),
            dataset_dir=ct / "imagesTs",
            ckpt_dirs=[str(folder) for folder in folders],
            output_dir=tmp_path / "out",
        )
    )
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 3


def test_mlflow_keeps_parameters_metrics_figures_and_configuration(trained, ct, tmp_path):
    from mlflow import MlflowClient

    shutil.copytree(trained / "prepared", tmp_path / "prepared")
    options = places(tmp_path, ct) | SMALL
    run(bundle_command(config("train", "demo"), **options, epochs=2, tracking=CONFIGS / "tracking.yaml"), cwd=tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path}/eval/mlruns.db")
    runs = client.search_runs([client.get_experiment_by_name("umamba_seg").experiment_id])
    assert len(runs) == 1
    data = runs[0].data
    assert runs[0].info.status == "FINISHED"
    assert data.params["network"] == "UMambaBot"
    assert len(client.get_metric_history(runs[0].info.run_id, "pseudo_dice_average")) == 2
    files = {item.path for item in client.list_artifacts(runs[0].info.run_id)}
    assert {"training_curves.png", "metrics.csv", "model.pt"} <= files
    assert any(path.startswith("config_") for path in files)
