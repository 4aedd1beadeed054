"""nnU-Net's planner under its published rule sets, v2.1 (U-Mamba) and later."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from custom_apps.seg.fingerprint import Fingerprint
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.planner import plan
from custom_apps.seg.plans import Plans
from tests.published.vector import Vector, adapter

RULES = {"v2.1": "v2.1", "default": "current", "ResEncM": "resenc_m", "ResEncL": "resenc_l", "ResEncXL": "resenc_xl"}
NAMES = {"blocks_encoder": "n_conv_per_stage", "blocks_decoder": "n_conv_per_stage_decoder"}


@adapter(lambda v: "experiment_planning" in v.source and "cases" in v.metadata)
def planner(v: Vector) -> None:
    for name, case in v.json("cases").items():
        shapes = v.tensors[f"in/{name}/shapes_after_crop"].tolist()
        spacings = v.tensors[f"in/{name}/spacings"].tolist()
        channels = [case["channel_names"][key] for key in sorted(case["channel_names"], key=int)]
        statistics = {str(number): {"mean": 0.0, "std": 1.0} for number in range(len(channels))}
        fingerprint = Fingerprint(spacings, shapes, case["median_relative_size_after_cropping"], statistics)
        labels = {"background": 0} | {f"label {i}": i for i in range(1, case["n_labels_including_background"])}
        dataset = SimpleNamespace(
            name=name,
            channel_names=channels,
            labels=LabelManager(labels),
            num_training=case["numTraining"],
            reader_name="SimpleITKIO",
        )
        for rules, expected in case["expected"].items():
            key, memory = re.fullmatch(r"(?:v2\.8\.1_)?(.+)_(\d+)GB", rules).groups()
            plans = plan(fingerprint, dataset, RULES[key], gpu_memory_gb=float(memory))
            plans = Plans.from_dict(json.loads(json.dumps(plans.to_dict())))
            _compare(plans, expected, f"{name} under {rules}")


def _compare(plans: Plans, expected: dict, where: str) -> None:
    for key, value in expected.items():
        if not isinstance(value, dict):
            assert getattr(plans, key) == pytest.approx(value, rel=0, abs=1e-6), f"{where}: {key}"
            continue
        if "inherits_from" in value:
            assert plans.configurations[key] == value, f"{where}: {key}"
            continue
        configuration = plans.configuration(key)
        for item, wanted in value.items():
            ours, label = getattr(configuration, NAMES.get(item, item)), f"{where}: {key}: {item}"
            if item == "spacing":
                np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-6, err_msg=label)
            else:
                assert ours == wanted, label
    assert set(plans.configurations) == {key for key, value in expected.items() if isinstance(value, dict)}, where
