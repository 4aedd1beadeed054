"""What every bundle owes to MONAI: valid metadata, verified network, complete properties, configurations that parse."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch
from monai.bundle import ConfigParser, create_workflow

from custom_apps.brain.phantom import write_glioma_phantom
from custom_apps.brain.prepare import prepare_dataset
from custom_apps.echo.phantom import write_echonet_phantom
from custom_apps.seg.phantom_ct import write_ct_phantom
from custom_apps.thyroid.phantom import write_thyroid_phantom
from tests.bundles.bundle_cli import ROOT, run, run_alone

BUNDLES = sorted(path.parent.parent for path in ROOT.glob("bundles/*/configs/metadata.json"))
SCHEMA = ROOT / "schemas" / "bundle_metadata.json"

pytestmark = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)


def metadata(bundle) -> dict:
    return json.loads((bundle / "configs" / "metadata.json").read_text())


def test_folder_holds_data_only(bundle):
    assert not list(bundle.rglob("*.py"))
    for name in ("LICENSE", "docs/README.md", "docs/data_license.txt", "configs/logging.conf"):
        assert (bundle / name).is_file(), name


def test_metadata_is_valid_and_versioned(bundle, tmp_path):
    content = metadata(bundle)
    assert content["name"] == bundle.name
    assert content["version"] in content["changelog"]
    schema = shutil.copy(SCHEMA, tmp_path / "schema.json")
    digest = hashlib.sha256(SCHEMA.read_bytes()).hexdigest()
    output = run(
        [
            *("-m", "monai.bundle", "verify_metadata"),
            *("--meta_file", str(bundle / "configs" / "metadata.json")),
            *("--filepath", str(schema), "--hash_val", digest, "--hash_type", "sha256"),
        ]
    )
    assert "metadata is verified with no error" in output


def test_released_network_takes_and_gives_what_the_metadata_say(bundle, unpacked):
    command = ["-m", "monai.bundle", "verify_net_in_out", "network_def", "--meta_file", "configs/metadata.json"]
    output = run_alone([*command, "--config_file", "configs/inference.json"], cwd=unpacked / bundle.name)
    assert "data shape of network is verified with no error" in output


def test_output_shape_of_the_network(bundle):
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.yaml"))
    parser["bundle_root"] = str(bundle)
    network = parser.get_parsed_content("network_def").eval()
    formats = metadata(bundle)["network_data_format"]
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    with torch.no_grad():
        output = network(torch.zeros(1, image["num_channels"], *image["spatial_shape"]))
    assert tuple(output.shape) == (1, pred["num_channels"], *pred["spatial_shape"])


def test_every_configuration_parses_and_names_existing_code(bundle):
    from pydoc import locate

    for path in sorted(bundle.glob("configs/*.yaml")):
        content = ConfigParser.load_config_file(str(path))
        for target in targets(content):
            if "." in target:
                assert locate(target) is not None, f"{path.name}: {target}"


def targets(content) -> list[str]:
    """Every ``_target_`` in a configuration."""
    if isinstance(content, dict):
        own = [content["_target_"]] if "_target_" in content else []
        return own + [target for value in content.values() for target in targets(value)]
    if isinstance(content, list):
        return [target for value in content for target in targets(value)]
    return []


def umamba_seg_phantom(folder) -> tuple[dict, dict]:
    data = write_ct_phantom(folder, cases=5, test_cases=1, shape=(16, 24, 24))
    return {"dataset_dir": data, "prepared_dir": folder / "prepared"}, {"dataset_dir": data / "imagesTs"}


def thyroid_deblur_mae_phantom(folder) -> tuple[dict, dict]:
    data = write_thyroid_phantom(folder, cases=6, test_cases=2, layout="tn3k", size=120)
    return {"dataset_dir": data, "batch_size": 2}, {"dataset_dir": data / "test-image"}


def echo_ef_mamba3d_phantom(folder) -> tuple[dict, dict]:
    data = write_echonet_phantom(folder, cases=5, test_cases=1, frames=(20, 30), size=32)
    return {"dataset_dir": data, "batch_size": 2}, {"dataset_dir": data / "Videos"}


def brain_idh_ssm_mae_phantom(folder) -> tuple[dict, dict]:
    data = write_glioma_phantom(folder, cases=13, size=24, unknown_every=0)
    prepare_dataset(data, folder / "prepared", size=40, spacing_mm=8.0, pictures=False)
    return {"dataset_dir": folder / "prepared", "batch_size": 2}, {"dataset_dir": data}


# What each bundle's training and inference read; inference is inspected with the small networks of the demonstration.
PHANTOMS = {
    "umamba_seg": umamba_seg_phantom,
    "thyroid_deblur_mae": thyroid_deblur_mae_phantom,
    "echo_ef_mamba3d": echo_ef_mamba3d_phantom,
    "brain_idh_ssm_mae": brain_idh_ssm_mae_phantom,
}


def test_required_properties_are_complete(bundle, tmp_path):
    assert bundle.name in PHANTOMS, f"give {bundle.name} its phantom data here"
    of_training, of_inference = PHANTOMS[bundle.name](tmp_path)
    folders = {"bundle_root": bundle, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "eval"}
    configs = {name: str(bundle / "configs" / f"{name}.yaml") for name in ("train", "demo", "evaluate", "inference")}
    plain = bundle.name == "umamba_seg"
    of_evaluation = of_training | ({"part": "test", "ckpt_dir": bundle / "configs" / "phantom_model"} if plain else {})
    for kind, files, options in (
        ("train", ["train", "demo"], of_training),
        ("train", ["train", "demo", "evaluate"], of_evaluation),
        ("infer", ["inference"] if plain else ["inference", "demo"], of_inference),
    ):
        values = {key: value if isinstance(value, int) else str(value) for key, value in (folders | options).items()}
        workflow = create_workflow(
            "ConfigWorkflow",
            config_file=[configs[name] for name in files],
            meta_file=str(bundle / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type=kind,
            **values,
        )
        assert workflow.check_properties() == []
        workflow.finalize()
