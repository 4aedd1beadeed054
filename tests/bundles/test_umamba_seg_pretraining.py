"""Pre-training, continuation and semi-supervised training of ``umamba_seg``, run as a user types it."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import torch

from custom_apps.cli import main
from custom_apps.seg.phantom_ct import write_ct_phantom
from custom_networks.nets.umamba2 import UMamba2
from custom_networks.published import export
from tests.bundles.bundle_cli import ROOT, bundle_command, run, torchrun_command

CONFIGS = ROOT / "bundles" / "umamba_seg" / "configs"
SMALL = {
    "plan_overrides": {"batch_size": 2, "patch_size": [16, 24, 24], "first_features": 4},
    "iterations": 4,
    "val_iterations": 2,
    "val_interval": 1,
}


def config(*names: str) -> list[Path]:
    return [CONFIGS / f"{name}.yaml" for name in names]


def log_rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "eval" / "metrics.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = write_ct_phantom(tmp_path_factory.mktemp("data"), cases=3, test_cases=3, shape=(18, 26, 28))
    shutil.copytree(folder / "imagesTs", folder / "unlabeledTr")
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("prepared")


def places(folder: Path, data: Path, prepared: Path) -> dict[str, Path]:
    return {
        "dataset_dir": data,
        "prepared_dir": prepared,
        "ckpt_dir": folder / "models",
        "output_dir": folder / "eval",
    }


@pytest.fixture(scope="module")
def pretrained(data, prepared, tmp_path_factory) -> Path:
    """An autoencoder of two epochs, the second after a resumption."""
    folder = tmp_path_factory.mktemp("pretrained")
    options = places(folder, data, prepared) | SMALL | {"learning_rate": 1e-3, "warmup_epochs": 1}
    run(bundle_command(config("train", "demo", "pretrain"), **options, epochs=1))
    # The schedule follows the configuration, so the rates of the second epoch are those of a longer run.
    assert "resumed" in run(bundle_command(config("train", "demo", "pretrain"), **options, epochs=2))
    return folder


def test_pretraining_leaves_the_best_autoencoder_log_and_pictures(pretrained):
    rows = log_rows(pretrained)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["val_restoration_loss"]) < float(rows[0]["val_restoration_loss"])
    assert (pretrained / "eval" / "figures" / "restorations.png").stat().st_size > 5000
    models = pretrained / "models"
    best, final = weights(models / "model.pt"), weights(models / "model_final.pt")
    assert all(torch.equal(best[key], final[key]) for key in final), "the second epoch is the better one"
    assert best["decoder.heads.0.weight"].shape[0] == 1


def test_handed_over_to_a_training_that_accumulates_and_is_continued(pretrained, data, prepared, tmp_path):
    """At a rate of 0 the weights afterwards are those that the training began with."""
    options = places(tmp_path, data, prepared) | SMALL | {"epochs": 1, "fold": "all"}
    given = pretrained / "models" / "model.pt"
    output = run(
        bundle_command(config("train", "demo"), **options, pretrained=given, learning_rate=0.0, accumulation=2)
    )
    assert "115 matched" in output
    start, autoencoder = weights(tmp_path / "models" / "model_final.pt"), weights(given)
    heads = {key for key in start if key.startswith("decoder.heads.")}
    assert all(torch.equal(start[key], autoencoder[key]) for key in start.keys() - heads)
    assert all(start[key].shape[0] == 5 for key in heads)

    folder = tmp_path / "continued"
    options = places(folder, data, prepared) | SMALL | {"epochs": 3, "fold": "all"}
    final = tmp_path / "models" / "model_final.pt"
    output = run(bundle_command(config("train", "demo", "continue"), **options, pretrained=final))
    assert "119 matched" in output
    assert [float(row["lr"]) for row in log_rows(folder)] == pytest.approx([1e-3, 5.05e-4, 1e-5])
    refused = run(
        bundle_command(
            config("train", "demo", "continue"), **options | {"ckpt_dir": folder / "other"}, pretrained=given
        ),
        succeed=False,
    )
    assert "decoder.heads.0.weight has shape (1," in refused


def test_two_processes_teach_without_labels_and_a_resumption_goes_on(pretrained, data, prepared, tmp_path):
    options = places(tmp_path, data, prepared) | SMALL
    options |= {"fold": "all", "unlabeled_share": 0.5, "pseudo_label_share": 0.4, "median_edge": [2, 3]}
    options |= {"pretrained": pretrained / "models" / "model.pt", "ema_teacher": True, "iterations": 6}
    names = ("train", "demo", "semi_supervised")
    run(torchrun_command(2, bundle_command(config(*names, "multi_gpu"), **options, epochs=1)))
    assert "resumed" in run(bundle_command(config(*names), **options, epochs=2))
    rows = log_rows(tmp_path)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    found = {key for row in rows for key in row if key.endswith("_loss") and row[key]}
    assert {"train_labeled_loss", "train_consistency_loss", "train_pseudo_label_loss"} <= found
    state = torch.load(tmp_path / "models" / "last.pt", weights_only=True)["objects"]
    average, online = state["weight_average"]["network"], state["network"]
    assert average.keys() == online.keys()
    assert any(not torch.equal(average[key], online[key]) for key in online)


def test_an_autoencoder_of_the_authors_is_converted(tmp_path, capsys):
    network = UMamba2(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        features_per_stage=[4, 8],
        kernel_sizes=[[3, 3, 3]] * 2,
        strides=[[1, 1, 1], [2, 2, 2]],
        n_blocks_per_stage=[1, 2],
        n_conv_per_stage_decoder=[1],
    )
    model = {f"encoder.{key}": value for key, value in export("umamba2", network).items()}
    content = {"model": model, "optimizer": {}, "lr_scheduler": {}, "max_accuracy": 0.1, "epoch": 199}
    torch.save(content, tmp_path / "dae.pth")
    command = ["convert", "umamba2", str(tmp_path / "dae.pth"), str(tmp_path / "models")]
    assert main(command) == 0
    own = network.state_dict()
    stored = weights(tmp_path / "models" / "model.pt")
    assert stored.keys() == own.keys()
    assert all(torch.equal(stored[key], own[key]) for key in own)
    assert main(command) == 1
    assert "already there" in capsys.readouterr().err
