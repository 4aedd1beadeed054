"""The command line: what it prints, and what it answers to unusable data and files."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from custom_apps.cli import main
from custom_apps.seg.phantom_ct import write_ct_phantom
from custom_networks.nets.mamba3d_regressor import Mamba3DRegressor
from custom_networks.published import export

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_ct_phantom(tmp_path_factory.mktemp("phantom"), cases=2, test_cases=1, shape=(8, 16, 16))


@pytest.fixture
def data(phantom, tmp_path):
    return shutil.copytree(phantom, tmp_path / phantom.name)


def test_info_lists_bundles_and_imports_no_torch(tmp_path):
    code = (
        "import sys; from custom_apps.cli import main; main(['info', '--json']); "
        "heavy = {'torch', 'monai', 'numpy', 'ignite', 'yaml'} & set(sys.modules); assert not heavy, heavy"
    )
    for folder in (ROOT, tmp_path):
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"]
        output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout
        bundles = json.loads(output)["bundles"]
        assert sorted(bundles) == sorted(path.name for path in (ROOT / "bundles").iterdir())
        for name, facts in bundles.items():
            configs = {path.stem for path in ROOT.glob(f"bundles/{name}/configs/*.yaml")}
            assert set(facts["configs"]) == configs
            assert all(config["title"] for config in facts["configs"].values())
            assert facts["task"]
            assert facts["inputs"]["image"]["num_channels"] >= 1
            assert facts["outputs"]["pred"]["dtype"] == "float32"
    assert bundles["umamba_seg"]["systems"] == ["umamba", "umamba2"]
    assert {"check", "demo", "phantom"} <= set(bundles["umamba_seg"]["commands"])
    runs = {name for name, config in bundles["umamba_seg"]["configs"].items() if config["runs"]}
    assert {"train", "evaluate", "inference"} <= runs
    assert "multi_gpu" not in runs


def test_phantom_is_written_once(tmp_path, capsys):
    command = ["phantom", "umamba_seg", str(tmp_path), "--kind", "cells", "--cases", "1", "--test-cases", "1"]
    assert main(command) == 0
    assert capsys.readouterr().out.strip().endswith("Dataset902_PhantomCells")
    assert main(command) == 1
    assert "not overwritten" in capsys.readouterr().err


def change_label(path, change):
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(change(np.asarray(image.dataobj)), image.affine), path)


def nan_image(root):
    change_label(root / "imagesTr" / "phantom_tr_000_0000.nii.gz", lambda a: np.full(a.shape, np.nan, np.float32))


def undeclared_label(root):
    change_label(root / "labelsTr" / "phantom_tr_001.nii.gz", lambda a: np.full(a.shape, 9, np.uint8))


def another_shape(root):
    change_label(root / "labelsTr" / "phantom_tr_000.nii.gz", lambda a: a[1:])


def truncated(root):
    path = root / "imagesTr" / "phantom_tr_001_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:300])


def missing_channel(root):
    description = json.loads((root / "dataset.json").read_text())
    description["channel_names"]["1"] = "PET"
    (root / "dataset.json").write_text(json.dumps(description))


def wrong_ending(root):
    description = json.loads((root / "dataset.json").read_text()) | {"file_ending": ".png"}
    (root / "dataset.json").write_text(json.dumps(description))


def empty(root):
    shutil.rmtree(root / "imagesTr")
    (root / "imagesTr").mkdir()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (nan_image, "phantom_tr_000_0000.nii.gz"),
        (undeclared_label, "phantom_tr_001.nii.gz"),
        (another_shape, "phantom_tr_000"),
        (truncated, "phantom_tr_001_0000.nii.gz"),
        (missing_channel, "_0001.nii.gz"),
        (wrong_ending, "imagesTr"),
        (empty, "imagesTr"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_check_names_the_file_and_fails(data, capsys, damage, named):
    damage(data)
    assert main(["check", "umamba_seg", str(data)]) != 0
    captured = capsys.readouterr()
    assert named in captured.out + captured.err


def test_check_of_a_sound_data_set(data, capsys):
    assert main(["check", "umamba_seg", str(data)]) == 0


def test_convert_refuses_what_is_no_checkpoint(tmp_path, capsys):
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pth")
    for name, message in (("other.pth", "carries no plan"), ("absent.pth", "absent.pth: no such file")):
        assert main(["convert", "umamba", str(tmp_path / name), str(tmp_path / "out")]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_convert_writes_weights_that_the_bundle_loads(tmp_path, capsys):
    arguments = {"clip_size": (4, 16, 16), "patch_size": 8, "embed_dim": 16, "num_macro_blocks": 1, "final_dim": 8}
    network = Mamba3DRegressor(**arguments)
    torch.save({"model": export("echo", network)}, tmp_path / "checkpoint_best_epoch_3.pth")
    settings = [f"--set={name}={value}" for name, value in arguments.items()]
    command = ["convert", "echo", str(tmp_path / "checkpoint_best_epoch_3.pth"), str(tmp_path / "models")]
    name = "--set=network=echo_dynamic_video_mamba_3d"
    assert main([*command, name, *settings]) == 0
    stored = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    own = network.state_dict()
    assert stored.keys() == own.keys()
    assert all(torch.equal(stored[key], own[key]) for key in own)
    assert main([*command, name, *settings]) == 1
    assert "already there and not overwritten" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="no_such_argument") as refused:
        main([*command[:3], str(tmp_path / "other"), name, "--set=no_such_argument=1"])
    assert refused.value.code == 2


def test_convert_refuses_a_bomb(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**22))
    assert main(["convert", "umamba", str(tmp_path / "bomb.pth"), str(tmp_path / "out")]) == 1
    assert "bomb.pth" in capsys.readouterr().err


def test_codes_are_in_the_help_and_a_wrong_command_line_has_its_own(tmp_path, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "exit codes:" in capsys.readouterr().out
    code = "from custom_apps.cli import main; main(['phantom', 'umamba_seg', '.', '--kind', 'no such kind'])"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr.startswith("error: umamba_seg has the phantoms ct, cells")
