import ast
import json
from pathlib import Path

import numpy as np
import pytest

from custom_apps.echo.demo import demo_commands, demo_summary
from custom_apps.echo.phantom import write_echonet_phantom
from tests.bundles.bundle_cli import ROOT

BUNDLE = ROOT / "bundles" / "echo_ef_mamba3d"


def configurations(command):
    return ast.literal_eval(command[command.index("--config_file") + 1])


def test_commands_build_on_each_other(tmp_path):
    commands = demo_commands(BUNDLE, tmp_path)
    assert [command[2] for command in commands[:2]] == ["phantom", "check"]
    runs = commands[2:-2]
    assert [command[2] for command in commands[-2:]] == ["report", "report"]
    assert all(Path(path).is_file() for command in runs for path in configurations(command))
    written = runs[0][runs[0].index("--ckpt_dir") + 1]
    assert runs[1][runs[1].index("--pretrained") + 1] == str(Path(written) / "model.pt")
    folders = {command[command.index("--ckpt_dir") + 1] for command in runs[1:]}
    assert len(folders) == 1, "training, evaluation and prediction share the model"


def test_existing_phantom_is_kept(tmp_path):
    write_echonet_phantom(tmp_path / "data", cases=2, test_cases=1, frames=(10, 12), size=32)
    assert demo_commands(BUNDLE, tmp_path)[0][2] == "check"


def test_summary_sets_the_error_beside_the_spread(tmp_path):
    write_echonet_phantom(tmp_path / "data", cases=2, test_cases=3, frames=(10, 12), size=32)
    folder = tmp_path / "eval" / "test"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({"protocols": {"all_clips": {"mae": {"value": 4.24}}}}))
    text = demo_summary(tmp_path)
    assert "3 phantom test videos: mean absolute error 4.2 points" in text
    spread = float(text.split("standard deviation ")[1].split()[0])
    assert spread == pytest.approx(np.std([30, 47, 65]), rel=0.5)
