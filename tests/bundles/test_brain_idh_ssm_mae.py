"""``brain_idh_ssm_mae`` end to end on phantom gliomas, run as a user types it."""

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

from custom_apps.brain.contrasts import CONTRASTS
from custom_apps.brain.patients import read_patient
from custom_apps.brain.phantom import write_glioma_phantom
from custom_apps.brain.prepare import prepare_dataset
from custom_apps.brain.room import ROOM
from custom_apps.common.dicom_series import write_dicom_series
from custom_apps.common.report_command import report_folder
from tests.bundles.bundle_cli import ROOT, bundle_command, run, start, torchrun_command
from tests.common.mlflow_server import mlflow_server
from tests.common.report_page import checked

BUNDLE = ROOT / "bundles" / "brain_idh_ssm_mae"
SPACING_MM = 8.0
NETWORK = {"image_size": [24, 24, 24], "patch_size": 8, "embed_dim": 12, "depth": 2}
SMALL = NETWORK | {"batch_size": 2, "accumulation_steps": 1, "warmup_epochs": 1, "num_workers": 0, "folds": 2}
DECODER = {"decoder_dim": 12, "decoder_depth": 1, "held_out_share": 0.2, "pictures": 1}


def config(*names: str) -> list[Path]:
    return [BUNDLE / "configs" / f"{name}.yaml" for name in names]


def folds_command(**options: object) -> list[str]:
    given = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    return ["-m", "custom_apps", "folds", BUNDLE.name, *given]


def places(folder: Path, data: Path) -> dict[str, Path]:
    return {"dataset_dir": data, "ckpt_dir": folder / "models", "output_dir": folder / "eval"}


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def same_weights(first: Path, second: Path) -> bool:
    ours, theirs = weights_of(first), weights_of(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], value) for key, value in theirs.items())


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    return write_glioma_phantom(tmp_path_factory.mktemp("raw"), cases=17, size=24, unknown_every=0)


@pytest.fixture(scope="module")
def data(raw, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare_dataset(raw, folder, size=NETWORK["image_size"], spacing_mm=SPACING_MM, pictures=False)
    return folder


@pytest.fixture(scope="module")
def pretrained(data, tmp_path_factory) -> Path:
    """A pre-training of two short epochs; the folder of its model."""
    folder = tmp_path_factory.mktemp("pretrained")
    run(bundle_command(config("train", "pretrain"), **places(folder, data), **SMALL, **DECODER, epochs=2))
    return folder


@pytest.fixture(scope="module")
def trained(data, pretrained, tmp_path_factory) -> tuple[Path, str]:
    """Two folds of two epochs from pre-trained weights and their evaluation, and what the command printed."""
    folder = tmp_path_factory.mktemp("trained")
    options = places(folder, data) | SMALL | {"epochs": 2, "resamples": 50}
    options["pretrained"] = pretrained / "models" / "pretrained" / "model.pt"
    return folder, run(folds_command(**options))


def test_pretraining_leaves_model_log_pictures_and_record(pretrained):
    rows = rows_of(pretrained / "eval" / "pretrained" / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert {"val_mse_loss", "lr"} <= set(rows[0])
    figures = pretrained / "eval" / "pretrained" / "figures"
    for name in ("training_curves", "reconstructions"):
        assert (figures / f"{name}.png").stat().st_size > 5000, name
    assert json.loads((figures.parent / "run.json").read_text())["outcome"] == "completed"
    assert all(isinstance(v, torch.Tensor) for v in weights_of(pretrained / "models/pretrained/model.pt").values())


def test_error_of_the_held_out_patients(pretrained, data):
    options = places(pretrained, data) | SMALL | DECODER
    run(bundle_command(config("train", "pretrain", "evaluate_pretraining"), **options))
    results = pretrained / "eval" / "pretrained" / "held_out"
    content = json.loads((results / "losses.json").read_text())
    assert content["cases"] == 3
    assert content["low"] <= content["value"] <= content["high"]
    assert (results / "figures" / "reconstructions.png").is_file()


def test_folds_start_from_the_pretrained_encoder_and_are_evaluated_together(trained, data):
    folder, output = trained
    assert "pre-trained weights of" in output
    assert "mean over folds" in output
    rows = rows_of(folder / "eval" / "cross_validation" / "out_of_fold.csv")
    assert [row["case"] for row in rows] == sorted(path.name for path in data.iterdir() if path.is_dir())
    assert {row["fold"] for row in rows} == {"0", "1"}
    content = json.loads((folder / "eval" / "cross_validation" / "folds.json").read_text())
    assert content["estimates"]["all cases"]["cases"] == 17
    assert (folder / "eval" / "cross_validation" / "figures" / "folds.png").stat().st_size > 5000
    for fold in range(2):
        assert {"val_auroc", "val_loss"} <= set(rows_of(folder / "eval" / f"fold_{fold}" / "metrics.csv")[0])
    page = checked(report_folder(ROOM, folder / "eval" / "cross_validation", BUNDLE))
    assert len(page.pictures) == 3 + 2 + 2, "worst cases, curves, training"
    assert page.text.count("model.pt, SHA-256") == 2


def test_out_of_fold_predictions_are_those_of_the_folds_own_models(trained, data, tmp_path):
    folder, _ = trained
    rows = rows_of(folder / "eval" / "cross_validation" / "out_of_fold.csv")
    row = next(row for row in rows if row["fold"] == "1")
    options = NETWORK | {"weights": "fold_1/model.pt", "ckpt_dir": folder / "models", "output_dir": tmp_path}
    run(bundle_command(config("inference"), dataset_dir=data / row["case"], **options, maps=False))
    (found,) = rows_of(tmp_path / "markers.csv")
    assert float(found["probability"]) == pytest.approx(float(row["probability_1"]), abs=1e-6)
    assert not (tmp_path / "maps").exists()


def test_frozen_features(pretrained, data, tmp_path):
    options = places(tmp_path, data) | SMALL | {"neighbors": 3, "resamples": 50}
    weights = pretrained / "models" / "pretrained" / "model.pt"
    run(bundle_command(config("train", "evaluate_features"), **options, pretrained=weights))
    stored = np.load(tmp_path / "eval" / "features" / "features.npz", allow_pickle=False)
    assert stored["features"].shape == (17, NETWORK["embed_dim"])
    assert json.loads((tmp_path / "eval" / "features" / "knn.json").read_text())["neighbors"] == 3


def test_killed_training_goes_on_with_the_same_numbers(trained, data, pretrained, tmp_path):
    folder, _ = trained
    weights = {"pretrained": pretrained / "models" / "pretrained" / "model.pt"}
    command = bundle_command(config("train"), **places(tmp_path, data), **SMALL, **weights, epochs=2)
    process, state = start(command), tmp_path / "models" / "fold_0" / "last.pt"
    deadline = time.monotonic() + 300
    while not state.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert state.is_file(), "no checkpoint before the kill"
    assert not (tmp_path / "models" / "fold_0" / "model_final.pt").exists(), "the run was over before the kill"

    assert "resumed" in run(command)
    ours, theirs = (rows_of(f / "eval" / "fold_0" / "metrics.csv") for f in (tmp_path, folder))
    for column in ("epoch", "train_loss", "lr", "val_auroc", "val_loss"):
        assert [row[column] for row in ours] == [row[column] for row in theirs], column
    assert same_weights(tmp_path / "models/fold_0/model_final.pt", folder / "models/fold_0/model_final.pt")


def test_checkpoint_of_another_patch_size_is_refused_and_kept(trained, data):
    folder, _ = trained
    before = {path.name: path.read_bytes() for path in (folder / "models" / "fold_0").iterdir()}
    options = places(folder, data) | SMALL | {"epochs": 3, "patch_size": 12}
    output = run(bundle_command(config("train"), **options), succeed=False)
    assert "belongs to another network" in output
    assert "last.pt" in output
    assert {path.name: path.read_bytes() for path in (folder / "models" / "fold_0").iterdir()} == before


def test_pretrained_encoder_of_another_patch_size_is_refused(pretrained, data, tmp_path):
    weights = pretrained / "models" / "pretrained" / "model.pt"
    options = places(tmp_path, data) | SMALL | {"epochs": 1, "patch_size": 12, "pretrained": weights}
    assert "does not fit VimClassifier" in run(bundle_command(config("train"), **options), succeed=False)
    assert not (tmp_path / "models" / "fold_0" / "model.pt").exists()


def test_unusable_data_end_in_a_line_that_names_the_file(data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "data")
    broken = copy / "EGD-0003" / "EGD-0003_t2.nii.gz"
    broken.write_bytes(broken.read_bytes()[:300])
    output = run(bundle_command(config("train"), **places(tmp_path, copy), **SMALL, epochs=1, fold=0), succeed=False)
    message = output.rstrip().splitlines()[-1]
    assert message.startswith("error: ")
    assert broken.name in message
    assert not (tmp_path / "models" / "fold_0" / "last.pt").exists()


def test_raw_volumes_are_refused_in_training(raw, tmp_path):
    output = run(bundle_command(config("train"), **places(tmp_path, raw), **SMALL, epochs=1), succeed=False)
    assert output.rstrip().splitlines()[-1].startswith("error: ")
    assert "prepare" in output


def test_prediction_of_one_raw_patient_with_the_models_of_all_folds(trained, raw, tmp_path):
    folder, _ = trained
    options = NETWORK | {"spacing_mm": SPACING_MM, "folds": 2, "ckpt_dir": folder / "models"}
    patient = raw / "EGD-0004"
    command = bundle_command(
        ["configs/inference.yaml", "configs/ensemble.yaml"], dataset_dir=patient, output_dir=tmp_path, **options
    )
    run(command, cwd=BUNDLE)
    (row,) = rows_of(tmp_path / "markers.csv")
    assert row["file_name"] == "EGD-0004"
    assert 0 < float(row["probability"]) < 1
    original = nibabel.load(read_patient(patient).files["flair"])
    placed = nibabel.load(tmp_path / "maps" / "EGD-0004_map_original.nii.gz")
    assert placed.shape == original.shape
    np.testing.assert_allclose(placed.affine, original.affine, atol=1e-4)
    prepared = nibabel.load(tmp_path / "maps" / "EGD-0004_map.nii.gz")
    assert list(prepared.shape) == NETWORK["image_size"]
    assert len(np.unique(np.asarray(prepared.dataobj))) == 27
    assert (tmp_path / "maps" / "EGD-0004_map.png").stat().st_size > 5000
    assert 0 <= json.loads((tmp_path / "maps" / "EGD-0004_map.json").read_text())["auc"] <= 1

    assert len(checked(report_folder(ROOM, tmp_path, BUNDLE)).pictures) == 1

    content = (tmp_path / "markers.csv").read_bytes()
    assert "earlier predictions" in run(command, cwd=BUNDLE, succeed=False)
    assert (tmp_path / "markers.csv").read_bytes() == content


def test_prediction_from_dicom_is_that_from_nifti(trained, raw, tmp_path):
    folder, _ = trained
    patient = read_patient(raw / "EGD-0006")
    study = tmp_path / "study"
    for name in CONTRASTS:
        image = nibabel.load(patient.files[name])
        write_dicom_series(np.asarray(image.dataobj), image.affine, study / name)
    options = NETWORK | {"spacing_mm": SPACING_MM, "weights": "fold_0/model.pt", "ckpt_dir": folder / "models"}
    found = {}
    for kind, source in (("dicom", study), ("nifti", raw / "EGD-0006")):
        run(bundle_command(config("inference"), dataset_dir=source, output_dir=tmp_path / kind, **options))
        (row,) = rows_of(tmp_path / kind / "markers.csv")
        found[kind] = float(row["probability"])
    assert found["dicom"] == pytest.approx(found["nifti"], abs=1e-5)


@pytest.fixture(scope="module")
def tracked(data, tmp_path_factory):
    """Both folds and their evaluation by two processes, tracked by a server: the folder, and a client of the server."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("together")
    options = places(folder, data) | SMALL | {"epochs": 2, "drop_path": 0.0, "resamples": 50}
    with mlflow_server(tmp_path_factory.mktemp("server")) as (address, _):
        command = folds_command(**options, overlays="multi_gpu", tracking="tracking", tracking_uri=address)
        run(torchrun_command(2, command))
        yield folder, MlflowClient(address)


def test_two_processes_train_and_score_as_one(data, tracked, tmp_path):
    folders = {"alone": tmp_path / "alone", "together": tracked[0]}
    options = SMALL | {"epochs": 2, "drop_path": 0.0, "resamples": 50}
    run(folds_command(**places(folders["alone"], data), **options | {"batch_size": 4}))
    for fold in range(2):
        one, two = (rows_of(folder / "eval" / f"fold_{fold}" / "metrics.csv") for folder in folders.values())
        for ours, theirs in zip(one, two, strict=True):
            for column in ("train_loss", "val_auroc"):
                assert float(ours[column]) == pytest.approx(float(theirs[column]), abs=1e-4), column
    one, two = (rows_of(folder / "eval" / "cross_validation" / "out_of_fold.csv") for folder in folders.values())
    assert len(one) == 17
    assert [row["case"] for row in one] == [row["case"] for row in two]
    for ours, theirs in zip(one, two, strict=True):
        assert float(ours["probability_1"]) == pytest.approx(float(theirs["probability_1"]), abs=1e-4)


def test_published_protocol_looks_at_the_test_fold_and_takes_the_last_epoch(data, tmp_path):
    options = places(tmp_path, data) | SMALL | {"epochs": 1, "resamples": 50, "task": "1p19q"}
    names = ("train", "codeletion", "published_protocol")
    run(bundle_command(config(*names), **options))
    assert sorted(path.name for path in (tmp_path / "models" / "fold_0").iterdir()) == ["last.pt", "model_final.pt"]
    run(bundle_command(config(*names, "evaluate"), **options, weights="model_final.pt", evaluated_folds=[0]))
    content = json.loads((tmp_path / "eval" / "cross_validation" / "folds.json").read_text())
    assert set(content["estimates"]) == {"all cases", "IDH-mutant", "fold 0"}
    trained = rows_of(tmp_path / "eval" / "fold_0" / "metrics.csv")
    assert float(trained[0]["val_auroc"]) == pytest.approx(content["published"]["fold 0"]["roc_auc_score"], abs=1e-6)


def test_published_pretraining_and_the_transformer_baseline(data, tmp_path):
    options = places(tmp_path, data) | SMALL | DECODER | {"epochs": 1}
    run(bundle_command(config("train", "pretrain", "published_pretraining"), **options))
    heads = {"num_heads": 2, "decoder_num_heads": 2, "output_dir": tmp_path / "vit", "ckpt_dir": tmp_path / "vit"}
    run(bundle_command(config("train", "pretrain", "vit"), **options | heads))
    weights = {"pretrained": tmp_path / "vit" / "pretrained" / "model.pt"}
    run(bundle_command(config("train", "vit"), **options | heads | weights | {"mixup": 0.5}))
    assert "class_token" in weights_of(tmp_path / "vit" / "fold_0" / "model.pt")


def test_a_server_keeps_one_run_with_a_part_for_each_fold(tracked):
    folder, client = tracked
    runs = client.search_runs([client.get_experiment_by_name("brain_idh_ssm_mae").experiment_id])
    # Each of the two processes would make runs of its own if it logged.
    found = {found.info.run_name.split("-")[0]: found for found in runs}
    assert sorted(found) == sorted(each.info.run_name.split("-")[0] for each in runs)
    assert set(found) == {"fold_0", "fold_1", "cross_validation"}
    assert all(each.info.status == "FINISHED" for each in runs)
    whole = found["cross_validation"]
    assert "auroc_fold_mean" in whole.data.metrics
    for number in range(2):
        part = found[f"fold_{number}"]
        assert part.data.tags["mlflow.parentRunId"] == whole.info.run_id
        assert part.data.params["fold"] == str(number)
        assert "cores" in part.data.tags["machine"]
        logged = [point.value for point in client.get_metric_history(part.info.run_id, "auroc")]
        rows = rows_of(folder / "eval" / f"fold_{number}" / "metrics.csv")
        assert logged == pytest.approx([float(row["val_auroc"]) for row in rows], abs=1e-6)
        files = {item.path for item in client.list_artifacts(part.info.run_id)}
        assert {"training_curves.png", "metrics.csv", "model.pt"} <= files
        assert any(path.startswith("config_") for path in files)
