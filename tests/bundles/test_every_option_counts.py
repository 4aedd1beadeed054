"""An id that a configuration offers has an effect: something in the bundle refers to it."""

import re

import pytest
import yaml

from tests.bundles.bundle_cli import ROOT

CONFIGS = sorted(path for path in ROOT.glob("bundles/*/configs/*.yaml"))
# Read by MONAI's engine of workflows or by the command line, not by another entry of a configuration.
ENTRY_POINTS = {"imports", "initialize", "run", "finalize", "evaluator", "train", "validate"}
# What verification, MONAI Label and federated learning look up by name.
LOOKED_UP = {
    "network_def",
    "network",
    "preprocessing",
    "postprocessing",
    "inferer",
    "handlers",
    "dataset",
    "dataloader",
}


def _plain(value):
    return not isinstance(value, dict | list) or not any(isinstance(v, dict | list) for v in value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_options_are_referred_to(path):
    content = yaml.safe_load(path.read_text(encoding="ascii")) or {}
    text = "\n".join(other.read_text(encoding="ascii") for other in path.parent.glob("*.yaml"))
    referred = set(re.findall(r"@([A-Za-z_]\w*)", text))
    offered = {
        name
        for name, value in content.items()
        if re.fullmatch(r"\w+", name) and _plain(value) and not isinstance(value, dict)
    }
    assert not offered - referred - ENTRY_POINTS - LOOKED_UP
