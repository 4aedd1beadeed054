import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from custom_apps.cli import main
from custom_apps.common.errors import DataError
from custom_apps.common.network_export import export_network, flat_tensors, largest_difference, run_exported
from custom_networks.nets.vim_classifier import VimClassifier
from tests.bundles.bundle_cli import ROOT

BRAIN = ["--set", "image_size=[8,12,4]", "--set", "patch_size=4", "--set", "embed_dim=12", "--set", "depth=1"]


class Sizes(nn.Module):
    """Gives the sum over the last axis, which may have any length, and twice the image."""

    def forward(self, image):
        return image.sum(-1), [2 * image]


@pytest.fixture
def image():
    return torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("ending", ["pt2", "onnx"])
def test_axes_vary_as_asked(image, tmp_path, ending):
    pytest.importorskip("onnxruntime", reason="ONNX export is an optional extra")
    exported = export_network(Sizes(), [image], tmp_path / f"sizes.{ending}", "all")
    assert exported.inputs == {"image": ["batch", "size_1", "size_2"]}
    other = torch.randn(4, 2, 9)
    assert largest_difference(run_exported(exported.path, [other]), flat_tensors(Sizes()(other))) < 1e-6
    exported = export_network(Sizes(), [image], tmp_path / f"batch.{ending}")
    assert exported.inputs == {"image": ["batch", 3, 5]}
    assert exported.outputs == {"pred": ["batch", 3], "pred_1": ["batch", 3, 5]}
    fixed = export_network(Sizes(), [image], tmp_path / f"fixed.{ending}", "none")
    assert fixed.inputs == {"image": [2, 3, 5]}


def test_differences(image):
    assert largest_difference([image], [image]) == 0
    assert largest_difference([image], [image[:1]]) == float("inf")
    assert largest_difference([image], []) == float("inf")
    assert largest_difference([torch.tensor([8.0, 1.0])], [torch.tensor([10.0, 1.0])]) == pytest.approx(0.2)


def test_nothing_is_overwritten_and_endings_are_checked(image, tmp_path):
    (tmp_path / "there.pt2").touch()
    with pytest.raises(DataError, match="already there"):
        export_network(Sizes(), [image], tmp_path / "there.pt2")
    with pytest.raises(DataError, match="ending"):
        export_network(Sizes(), [image], tmp_path / "network.pt")
    with pytest.raises(DataError, match="no exported network"):
        run_exported(tmp_path / "missing.onnx", [image])
    with pytest.raises(ValueError, match="dynamic"):
        export_network(Sizes(), [image], tmp_path / "network.pt2", "length")
    assert [path.name for path in tmp_path.iterdir()] == ["there.pt2"]


ALONE = """
import sys, torch
program = torch.export.load(sys.argv[1]).module()
y = program(torch.zeros(3, 4, 8, 12, 4))
assert y.shape == (3, 2) and not [name for name in sys.modules if name.startswith("custom_")]
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    network = VimClassifier(2, 4, (8, 12, 4), 4, 12, 1)
    torch.save(network.state_dict(), folder / "model.pt")
    return folder


def test_command_writes_a_program_that_needs_nothing_of_this_project(weights, tmp_path, capsys):
    output = tmp_path / "marker"
    command = ["export", "brain_idh_ssm_mae", str(output), "--ckpt-dir", str(weights), *BRAIN]
    assert main([*command, "--plain"]) == 0
    assert "largest difference" in capsys.readouterr().out
    record = json.loads((tmp_path / "marker.pt2.json").read_text())
    assert record["network"]["labels"] == ["wild type", "mutant"]
    assert record["network"]["input_shape"] == [4, 8, 12, 4]
    assert record["network"]["spacing_mm"] == [1, 1, 1]
    assert record["network"]["preprocessing"][0] == "PrepareExaminationd"
    assert record["largest_difference"] < 1e-4
    assert record["loading"] is None
    assert record["weights"][0]["file"] == "model.pt"
    subprocess.run([sys.executable, "-c", ALONE, f"{output}.pt2"], cwd=tmp_path, check=True, timeout=200)
    assert main(command) == 1
    assert "already there" in capsys.readouterr().err


def test_command_fails_above_the_tolerance_and_without_weights(weights, tmp_path, capsys):
    command = ["export", "brain_idh_ssm_mae", str(tmp_path / "marker.pt2"), *BRAIN, "--bundle-dir", str(ROOT)]
    assert main([*command, "--ckpt-dir", str(tmp_path)]) == 1
    assert "no trained weights" in capsys.readouterr().err
    assert main([*command, "--ckpt-dir", str(weights), "--set", "nonsense=1"]) == 1
    assert "no such id" in capsys.readouterr().err
    assert main([*command, "--ckpt-dir", str(weights), "--format", "onnx"]) == 1
    assert "does not end as" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main([*command, "--ckpt-dir", str(weights), "--tolerance", "-1"]) == 1
    assert "ABOVE" in capsys.readouterr().out
