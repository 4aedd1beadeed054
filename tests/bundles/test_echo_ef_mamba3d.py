"""Training of ``echo_ef_mamba3d`` end to end on phantom videos, run as a user types it."""

from __future__ import annotations

import csv
import json
import signal
import time
import zipfile
from pathlib import Path

import pytest
import torch

from custom_apps.common.packing import pack
from custom_apps.echo.phantom import write_echonet_phantom
from tests.bundles.bundle_cli import ROOT, bundle_command, run, start, torchrun_command

BUNDLE = ROOT / "bundles" / "echo_ef_mamba3d"
SMALL = {
    "clip_length": 6,
    "period": 3,
    "frame_size": 16,
    "padding": 2,
    "patch_size": 8,
    "embed_dim": 16,
    "num_macro_blocks": 1,
    "final_dim": 8,
    "batch_size": 2,
    "accumulation_steps": 2,
    "steps_per_epoch": 2,
    "warmup_epochs": 1,
    "ema_update_after_step": 1,
    "ema_update_every": 1,
    "num_workers": 0,
}
TINY_DECODER = {"decoder_blocks": 1, "time_mask_chain": 2}


def config(*names: str) -> list[Path]:
    return [BUNDLE / "configs" / f"{name}.yaml" for name in names]


def places(folder: Path, data: Path) -> dict[str, Path]:
    return {"dataset_dir": data, "ckpt_dir": folder / "models", "output_dir": folder / "eval"}


def log_rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "eval" / "metrics.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def same_weights(first: Path, second: Path) -> bool:
    weights = [torch.load(path, weights_only=True) for path in (first, second)]
    return weights[0].keys() == weights[1].keys() and all(torch.equal(weights[0][k], v) for k, v in weights[1].items())


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return write_echonet_phantom(tmp_path_factory.mktemp("data"), cases=10, test_cases=2, frames=(20, 30), size=32)


@pytest.fixture(scope="module")
def pretrained(videos, tmp_path_factory) -> Path:
    """A pre-training of three short epochs, without interruption."""
    folder = tmp_path_factory.mktemp("pretrained")
    options = places(folder, videos) | SMALL | TINY_DECODER | {"epochs": 3}
    run(bundle_command(config("train", "pretrain"), **options))
    return folder


@pytest.fixture(scope="module")
def trained(videos, pretrained, tmp_path_factory) -> tuple[Path, str]:
    """A fine-tuning of that, and what it printed."""
    folder = tmp_path_factory.mktemp("trained")
    weights = {"pretrained": pretrained / "models" / "model.pt"}
    return folder, run(bundle_command(config("train"), **places(folder, videos), **SMALL, **weights, epochs=2))


def test_pretraining_leaves_model_log_figures_and_record(pretrained):
    rows = log_rows(pretrained)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert {"val_mse_loss", "val_mse_loss_online", "lr"} <= set(rows[0])
    assert (pretrained / "eval" / "figures" / "training_curves.png").stat().st_size > 5000
    assert json.loads((pretrained / "eval" / "run.json").read_text())["outcome"] == "completed"
    for name in ("model.pt", "model_final.pt"):
        weights = torch.load(pretrained / "models" / name, weights_only=True)
        assert all(isinstance(value, torch.Tensor) for value in weights.values())


def test_fine_tuning_starts_from_the_pretrained_encoder(trained, pretrained):
    folder, output = trained
    assert f"pre-trained weights of {pretrained / 'models' / 'model.pt'}" in output
    assert {"val_mae", "val_mae_online", "val_rmse", "val_r2"} <= set(log_rows(folder)[0])
    tuned = torch.load(folder / "models" / "last.pt", weights_only=True)["objects"]["network"]
    source = torch.load(pretrained / "models" / "model.pt", weights_only=True)
    # Two epochs at a low rate leave the pre-trained projections nearly as they were; drawn anew they would be unlike.
    key = "encoder.patch_embedding.projection.weight"
    assert torch.allclose(tuned[key], source[key], atol=5e-3)
    assert not torch.equal(tuned[key], source[key])


def test_killed_pretraining_goes_on_with_the_same_numbers(pretrained, videos, tmp_path):
    options = places(tmp_path, videos) | SMALL | TINY_DECODER | {"epochs": 3}
    command = bundle_command(config("train", "pretrain"), **options)
    process, state = start(command), tmp_path / "models" / "last.pt"
    deadline = time.monotonic() + 300
    while not state.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert state.is_file(), "no checkpoint before the kill"
    assert not (tmp_path / "models" / "model_final.pt").exists(), "the run was over before the kill"

    assert "resumed" in run(command)
    ours, theirs = log_rows(tmp_path), log_rows(pretrained)
    for column in ("epoch", "train_loss", "lr", "val_mse_loss", "val_mse_loss_online"):
        assert [row[column] for row in ours] == [row[column] for row in theirs], column
    for name in ("model.pt", "model_final.pt"):
        assert same_weights(tmp_path / "models" / name, pretrained / "models" / name), name


def test_checkpoint_of_another_network_is_refused_and_kept(trained, videos):
    folder, _ = trained
    before = {path.name: path.read_bytes() for path in (folder / "models").iterdir()}
    options = places(folder, videos) | SMALL | {"epochs": 3, "embed_dim": 8}
    output = run(bundle_command(config("train"), **options), succeed=False)
    assert "belongs to another network" in output
    assert "last.pt" in output
    assert {path.name: path.read_bytes() for path in (folder / "models").iterdir()} == before


def test_unusable_data_end_in_a_line_that_names_the_file(tmp_path):
    data = write_echonet_phantom(tmp_path, cases=4, test_cases=1, frames=(20, 24), size=32)
    broken = data / "Videos" / "phantom_tr_001.avi"
    broken.write_bytes(broken.read_bytes()[:700])
    output = run(bundle_command(config("train"), **places(tmp_path, data), **SMALL, epochs=1), succeed=False)
    message = output.rstrip().splitlines()[-1]
    assert message.startswith("error: ")
    assert broken.name in message
    assert not (tmp_path / "models" / "last.pt").exists()


def test_two_processes_train_as_one(videos, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    options = SMALL | {"epochs": 2}
    run(bundle_command(config("train"), **places(alone, videos), **options | {"batch_size": 4}))
    command = bundle_command(config("train", "multi_gpu"), **places(together, videos), **options)
    run(torchrun_command(2, command))
    for ours, theirs in zip(log_rows(together), log_rows(alone), strict=True):
        for column in ("train_loss", "val_mae", "val_mae_online", "val_r2", "lr"):
            assert float(ours[column]) == pytest.approx(float(theirs[column]), rel=2e-4), column


def test_two_processes_pretrain(videos, tmp_path):
    options = places(tmp_path, videos) | SMALL | TINY_DECODER | {"epochs": 1}
    run(torchrun_command(2, bundle_command(config("train", "pretrain", "multi_gpu"), **options)))
    assert len(log_rows(tmp_path)) == 1


def test_mlflow_keeps_parameters_metrics_figures_and_configuration(videos, tmp_path):
    from mlflow import MlflowClient

    options = places(tmp_path, videos) | SMALL | {"epochs": 2, "tracking": BUNDLE / "configs" / "tracking.yaml"}
    run(bundle_command(config("train"), **options), cwd=BUNDLE)
    client = MlflowClient(f"sqlite:///{tmp_path}/eval/mlruns.db")
    runs = client.search_runs([client.get_experiment_by_name("echo_ef_mamba3d").experiment_id])
    assert [entry.info.status for entry in runs] == ["FINISHED"]
    assert runs[0].data.params["network"] == "Mamba3DRegressor"
    assert len(client.get_metric_history(runs[0].info.run_id, "mae")) == 2
    files = {item.path for item in client.list_artifacts(runs[0].info.run_id)}
    assert {"training_curves.png", "metrics.csv", "model.pt"} <= files
    assert any(path.startswith("config_") for path in files)


def test_released_archive_trains_without_the_packages_installed(videos, tmp_path):
    archive, _ = pack(BUNDLE, tmp_path)
    with zipfile.ZipFile(archive) as content:
        content.extractall(tmp_path)
    options = {key: str(value) if isinstance(value, Path) else value for key, value in places(tmp_path, videos).items()}
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if 'editable' not in p]; "
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f)]; "
        "from monai.bundle import run; "
        f"run(config_file='configs/train.json', **{options | SMALL | {'epochs': 1}!r}); "
        "import custom_apps; print(custom_apps.__file__)"
    )
    unpacked = tmp_path / "echo_ef_mamba3d"
    assert str(unpacked) in run(["-c", code], cwd=unpacked, PYTHONPATH="")
    assert (tmp_path / "models" / "model.pt").is_file()
