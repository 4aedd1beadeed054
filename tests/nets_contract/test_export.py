"""Exported networks compute what the eager ones do."""

import numpy as np
import pytest
import torch

from tests.nets_contract.registry import ENTRIES
from tests.nets_contract.test_contract import as_list, build

# Clicks change the number of tokens with their own number, and come as a pair: ONNX users want the image-only networks.
ONNX_NAMES = (
    *("umamba_bot_3d", "umamba_enc_2d", "umamba2", "umamba_bot_3d_none", "vim_classifier", "vit_classifier"),
    *("mamba3d_regressor", "mamba3d_segmenter"),
    *("conv_vit_classifier", "upernet_conv_vit", "unet_vit"),
)
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
def test_onnx(entry, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX export is an optional extra")
    network, inputs = build(entry).eval(), entry.inputs()
    path = tmp_path / "network.onnx"
    torch.onnx.export(network, inputs, path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    outputs = session.run(None, dict(zip(names, (t.numpy() for t in inputs), strict=True)))
    with torch.no_grad():
        expected = as_list(network(*inputs))
    for ours, theirs in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-3, atol=1e-4)
