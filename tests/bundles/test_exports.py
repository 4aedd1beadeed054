"""Networks of the bundles as TorchScript and ONNX files, by MONAI's commands.

TorchScript is traced: the networks are not written in the part of Python that ``torch.jit.script`` knows. Its files
refer to our operators: a process that loads them has to import ``custom_networks``. Shapes are fixed in both.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export, onnx_export
from monai.data import load_net_with_metadata

from tests.bundles.bundle_cli import ROOT

# Input shape and sizes of the small network of each bundle; published sizes differ in numbers only.
SMALL = {
    "umamba_seg": ([1, 1, 32, 48, 48], {}),
    "echo_ef_mamba3d": ([1, 1, 16, 56, 56], {}),
    "brain_idh_ssm_mae": ([1, 4, 40, 40, 40], {"depth": 1}),
    "thyroid_deblur_mae": ([1, 3, 96, 96], {"depths": [1, 1, 1]}),
}

pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module", params=SMALL)
def exported(request, tmp_path_factory):
    """A small network with random weights, an input, and the arguments of the export commands."""
    folder, bundle = tmp_path_factory.mktemp(request.param), ROOT / "bundles" / request.param
    shape, sizes = SMALL[request.param]
    overlay = () if request.param == "umamba_seg" else ("demo",)
    configs = [str(bundle / "configs" / f"{name}.yaml") for name in ("inference", *overlay)]
    parser = ConfigParser()
    parser.read_config(configs)
    values = {"bundle_root": str(bundle), **sizes}
    parser.update(values)
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def").eval()
    torch.save(network.state_dict(), folder / "model.pt")
    arguments = {
        "net_id": "network_def",
        "ckpt_file": str(folder / "model.pt"),
        "meta_file": str(bundle / "configs" / "metadata.json"),
        "config_file": configs,
        "input_shape": shape,
        **values,
    }
    return network, torch.rand(shape), arguments, folder


def test_torchscript(exported):
    network, image, arguments, folder = exported
    ckpt_export(filepath=str(folder / "model.ts"), use_trace=True, **arguments)
    loaded, metadata, extra = load_net_with_metadata(str(folder / "model.ts"), more_extra_files=["inference.json"])
    assert metadata["version"] == "0.1.0"
    assert b"network_def" in extra["inference.json"]
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), network(image), rtol=1e-5, atol=1e-6)


def test_onnx(exported):
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX export is an optional extra")
    network, image, arguments, folder = exported
    onnx_export(filepath=str(folder / "model.onnx"), **arguments)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(output, network(image).numpy(), rtol=1e-3, atol=1e-4)
