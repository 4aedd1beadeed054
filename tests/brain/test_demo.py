import ast
import json
from pathlib import Path

import pytest

from custom_apps.brain.demo import demo_commands, demo_summary

BUNDLE = Path(__file__).parents[2] / "bundles" / "brain_idh_ssm_mae"


def test_steps_name_configurations_that_exist_and_are_left_out_when_done(tmp_path):
    commands = demo_commands(BUNDLE, tmp_path)
    assert [command[2] for command in commands] == [
        "phantom",
        "prepare",
        "check",
        "run",
        "folds",
        "run",
        "report",
        "report",
    ]
    for command in commands:
        if "--config_file" in command:
            for path in ast.literal_eval(command[command.index("--config_file") + 1]):
                assert Path(path).is_file(), path
    (tmp_path / "data" / "PhantomEGD").mkdir(parents=True)
    (tmp_path / "prepared" / "PhantomEGD").mkdir(parents=True)
    (tmp_path / "prepared" / "PhantomEGD" / "preparation.json").touch()
    assert demo_commands(BUNDLE, tmp_path) == commands[2:]


def test_summary_tells_the_area_its_interval_and_the_cases(tmp_path):
    results = tmp_path / "eval" / "cross_validation"
    results.mkdir(parents=True)
    area = {"cases": 85, "auroc": {"value": 0.836, "low": 0.7361, "high": 0.92}}
    (results / "folds.json").write_text(json.dumps({"estimates": {"all cases": area}}))
    text = demo_summary(tmp_path)
    assert "0.84 (95 % interval 0.74 to 0.92) on 85" in text
    with pytest.raises(FileNotFoundError):
        demo_summary(tmp_path / "nowhere")
