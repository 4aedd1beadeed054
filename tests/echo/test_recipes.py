"""The published runs: overlays in the right order give the published networks and settings."""

from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser

from custom_apps.common.freezing import freeze
from custom_apps.common.parameter_groups import parameter_groups
from tests.bundles.bundle_cli import ROOT

CONFIGS = ROOT / "bundles" / "echo_ef_mamba3d" / "configs"

# Overlays: parameters of the network, rate, warm-up and total epochs, steps an epoch, clipping, guard, mixup, chains.
RUNS = {
    "pretrain": (46_577_152, 1e-3, 5, 100, None, 0.1, 1.2, False, (4, 1)),
    "pretrain patch4": (12_147_104, 1e-3, 5, 100, None, 0.1, 1.2, False, (2, 4)),
    "pretrain camus": (46_577_152, 1e-3, 5, 100, 100, 0.1, None, False, (8, 1)),
    "pretrain buv": (46_577_152, 1e-3, 5, 200, 100, 0.1, 1.2, True, (32, 1)),
    "": (40_703_873, 1e-4, 1, 50, None, 1.0, None, False, None),
    "patch4": (12_279_617, 1e-4, 1, 50, None, 1.0, None, False, None),
    "camus": (40_703_873, 1e-4, 1, 100, None, 1.0, None, False, None),
    "segmentation": (35_066_240, 1e-4, 1, 50, None, 1.0, None, False, None),
    "segmentation patch4": (9_111_424, 1e-4, 1, 50, None, 1.0, None, False, None),
    "classification buv": (42_999_682, 1e-5, 1, 100, None, 1.0, None, False, None),
}


def parser(overlays: str) -> ConfigParser:
    content = ConfigParser()
    content.read_config([str(CONFIGS / f"{name}.yaml") for name in ["train", *overlays.split()]])
    return content


@pytest.mark.parametrize("overlays", RUNS)
def test_published_run(overlays):
    parameters, *settings, chains = RUNS[overlays]
    content = parser(overlays)
    ids = ("learning_rate", "warmup_epochs", "epochs", "steps_per_epoch", "clip_norm", "spike_multiplier", "mixup")
    assert [content.get_parsed_content(name) for name in ids] == settings
    with torch.device("meta"):
        network = content.get_parsed_content("network_def")
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    if chains:
        masking = network.masking
        assert masking.num_masked == int(0.8 * masking.num_cells)
        assert (content["time_mask_chain"], content["mask_chain"]) == chains
        assert not content.get_parsed_content("train::trainer::keep_predictions", instantiate=False, eval_expr=False)


def test_common_recipe():
    content = parser("")
    shared = {"batch_size": 4, "accumulation_steps": 4, "reference_batch_size": 32, "weight_decay": 0.1, "seed": 42}
    assert {name: content[name] for name in shared} == shared
    assert content["optimizer"]["eps"] == 1e-15
    assert content["amp_dtype"] == "bfloat16"
    assert content.get_parsed_content("scaled_rate") == pytest.approx(5e-5), "one process sees half of the 32 videos"


def test_mean_ejection_fraction_starts_the_head():
    with torch.device("meta"):
        assert parser("camus").get_parsed_content("network_def") is not None
    assert parser("camus")["initial_output"] == 44.412
    assert parser("")["initial_output"] == 55.777


def test_groups_of_the_published_networks():
    content = parser("")
    with torch.device("meta"):
        network = content.get_parsed_content("network_def")
    no_decay = content["optimizer"]["params"]["no_decay"]
    groups = {group["name"]: group for group in parameter_groups(network, 1e-4, 0.1, no_decay)}
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    spared = {names[id(parameter)].rsplit(".", 1)[-1] for parameter in groups["default_no_decay"]["params"]}
    assert {"A_log", "D", "bias"} <= spared
    decayed = {names[id(parameter)] for parameter in groups["default"]["params"]}
    assert {"encoder.positions.frames", "encoder.enclosure.faces", "encoder.enclosure.register"} <= decayed
    assert freeze(network, ["encoder"]) is network
    assert sum(len(group["params"]) for group in parameter_groups(network, 1e-4, 0.1, no_decay)) == 10
