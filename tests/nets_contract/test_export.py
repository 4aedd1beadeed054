"""Exported networks compute what the eager ones do."""

import pytest
import torch

from custom_apps.common.network_export import export_network, largest_difference, run_exported
from tests.nets_contract.registry import ENTRIES
from tests.nets_contract.test_contract import as_list, build

# Clicks change the number of tokens with their own number, and come as a pair: ONNX users want the image-only networks.
ONNX_NAMES = (
    *("umamba_bot_3d", "umamba_enc_2d", "umamba2", "umamba_bot_3d_none", "vim_classifier", "vit_classifier"),
    "mamba3d_regressor",
    *("conv_vit_classifier", "upernet_conv_vit", "unet_vit"),
)
# One for each direction of each scan.
LOOPS = {"umamba_bot_3d": 1, "umamba_enc_2d": 2, "umamba2": 1, "vim_classifier": 4, "mamba3d_regressor": 6}
ONNX = [entry for entry in ENTRIES if entry.name in ONNX_NAMES]


# How many tokens this network's encoder sees depends on the values of the mask.
EXPORTED = [entry for entry in ENTRIES if entry.name != "mamba3d_mae"]


@pytest.mark.parametrize("entry", EXPORTED, ids=lambda entry: entry.name)
def test_torch_export(entry, tmp_path):
    network, inputs = build(entry).eval(), entry.inputs()
    torch.export.save(torch.export.export(network, inputs), tmp_path / "network.pt2")
    exported = torch.export.load(tmp_path / "network.pt2").module()
    with torch.no_grad():
        for ours, theirs in zip(as_list(exported(*inputs)), as_list(network(*inputs)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("entry", ONNX, ids=lambda entry: entry.name)
def test_onnx_takes_other_batches(entry, tmp_path):
    pytest.importorskip("onnxruntime", reason="ONNX export is an optional extra")
    network, inputs = build(entry).eval(), entry.inputs()
    exported = export_network(network, inputs, tmp_path / "network.onnx")
    assert exported.scans == LOOPS.get(entry.name, 0)
    other = [x[:1] for x in inputs]
    with torch.no_grad():
        expected = as_list(network(*other))
    assert largest_difference(run_exported(exported.path, other), expected) < 1e-4
