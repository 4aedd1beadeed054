"""Every task and data set trains for a moment, assembled from the bundle's configurations in this process."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from custom_apps.echo.phantom import write_echonet_phantom
from custom_apps.echo.phantom_buv import write_buv_phantom
from custom_apps.echo.phantom_camus import write_camus_phantom
from tests.bundles.bundle_cli import ROOT
from tests.bundles.test_echo_ef_mamba3d import SMALL

CONFIGS = ROOT / "bundles" / "echo_ef_mamba3d" / "configs"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    return {
        "echonet": write_echonet_phantom(folder, cases=5, test_cases=1, frames=(20, 30), size=32),
        "camus": write_camus_phantom(folder),
        "buv": write_buv_phantom(folder),
    }


def train(overlays: str, dataset_dir: Path, folder: Path, **changes) -> list[dict[str, str]]:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.yaml") for name in ["train", *overlays.split()]])
    places = {"dataset_dir": dataset_dir, "ckpt_dir": folder / "models", "output_dir": folder / "eval"}
    places = {name: str(path) for name, path in places.items()}
    options = {"bundle_root": str(CONFIGS.parent), **places, **SMALL, "epochs": 2, "steps_per_epoch": 1, **changes}
    for name, value in options.items():
        parser[name] = value
    parser.get_parsed_content("train::trainer").run()
    with open(folder / "eval" / "metrics.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("overlays", "kind", "metric", "changes"),
    [
        ("segmentation", "echonet", "val_dice", {}),
        ("camus", "camus", "val_mae", {}),
        ("classification buv", "buv", "val_auc", {}),
        ("classification buv", "buv", "val_auc", {"frame_loss_weight": 0.5}),
        ("pretrain camus", "camus", "val_mse_loss", {"time_mask_chain": 2}),
        ("pretrain buv", "buv", "val_mse_loss", {"time_mask_chain": 2, "amp": True}),
        ("pretrain", "echonet", "val_mse_loss", {"mask_chain": 1, "time_mask_chain": 1, "ema": False}),
        ("", "echonet", "val_mae", {"ema": False, "freeze_modules": ["encoder"], "loss_kind": "smooth_l1"}),
        ("", "echonet", "val_mae", {"schedule": "linear", "parameter_parts": {"encoder": {"learning_rate": 1e-5}}}),
    ],
)
def test_it_trains(overlays, kind, metric, changes, data, tmp_path):
    rows = train(overlays, data[kind], tmp_path, **changes)
    assert len(rows) == 2
    assert all(math.isfinite(float(row["train_loss"])) for row in rows)
    assert all(math.isfinite(float(row[metric])) for row in rows)
    assert (f"{metric}_online" in rows[0]) == changes.get("ema", True)
    assert (tmp_path / "models" / "model.pt").is_file()


def test_masks_of_validation_repeat_while_those_of_training_do_not(data, tmp_path):
    options = {"time_mask_chain": 2, "learning_rate": 0.0, "weight_decay": 0.0, "epochs": 3}
    rows = train("pretrain", data["echonet"], tmp_path, **options)
    assert len({row["val_mse_loss"] for row in rows}) == 1
    assert all(row["val_mse_loss"] == row["val_mse_loss_online"] for row in rows)
    assert len({row["train_loss"] for row in rows}) == 3
