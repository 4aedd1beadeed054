import ast

import pytest

from custom_apps.cli import ROOMS, main
from custom_apps.common.errors import DataError
from custom_apps.common.room import imported
from custom_apps.common.table import write_csv
from custom_apps.seg.demo_interactive import demo_commands, demo_summary
from tests.bundles.bundle_cli import ROOT


def test_commands_name_configurations_that_exist(tmp_path):
    commands = demo_commands(ROOT / "bundles" / "umamba_seg", tmp_path)
    assert commands[0][:4] == ["-m", "custom_apps", "phantom", "umamba_seg"]
    runs = [command for command in commands if "monai.bundle" in command]
    assert len(runs) == 3
    for command in runs:
        files = ast.literal_eval(command[command.index("--config_file") + 1])
        assert all((ROOT / file).is_file() for file in files)
    data = tmp_path / "data" / "Dataset904_PhantomClicks" / "dataset.json"
    data.parent.mkdir(parents=True)
    data.write_text("{}")
    assert len(demo_commands(ROOT / "bundles" / "umamba_seg", tmp_path)) == len(commands) - 1, "data are made once"


def test_summary_prints_dice_over_clicks_with_intervals(tmp_path):
    with pytest.raises(DataError, match=r"click_curve.csv: is missing"):
        demo_summary(tmp_path)
    rows = [
        {"clicks": n, "label": label, "cases": 10, "mean": 0.2 + n / 10, "95 % low": 0.1, "95 % high": 0.9}
        for n in (0, 5)
        for label in ("Left_IAC", "mean")
    ]
    write_csv(rows, tmp_path / "eval" / "test" / "click_curve.csv")
    lines = demo_summary(tmp_path).splitlines()
    assert lines[0].startswith("Dice 0.200 (95 % interval 0.100 to 0.900, 10 phantom test cases) with 0 clicks")
    assert lines[1].startswith("Dice 0.700")


def test_recipes_are_found_by_name(tmp_path):
    for room in ROOMS.values():
        for functions in room.recipes.values():
            assert all(callable(imported(function)) for function in functions)
    with pytest.raises(SystemExit, match="umamba_seg has the recipes interactive"):
        main(["demo", "umamba_seg", "--output", str(tmp_path), "--recipe", "quick"])
    with pytest.raises(SystemExit, match="echo_ef_mamba3d has the recipes none"):
        main(["demo", "echo_ef_mamba3d", "--output", str(tmp_path), "--recipe", "interactive"])
