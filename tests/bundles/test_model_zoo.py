"""What MONAI's model zoo, MONAI Label and the Deploy App SDK ask of a bundle, read from its files."""

from __future__ import annotations

import ast
import configparser
import json
import re
import sys

import nibabel
import pytest
import torch
from monai.bundle import ConfigParser, create_workflow
from monai.transforms import Compose

import custom_networks
from custom_apps.common.packing import LARGEST_BYTES
from custom_apps.seg.phantom_ct import write_ct_phantom
from tests.bundles.bundle_cli import ROOT
from tests.bundles.conftest import BUNDLES

each_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)

HEADINGS = ("Model overview", "Data", "Training", "Evaluation", "Prediction", "References")
# The zoo's own properties of metadata, and those that nearly all of its bundles give.
FIELDS = {
    *("schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "name", "task"),
    *("description", "authors", "copyright", "network_data_format", "required_packages_version", "supported_apps"),
    *("data_type", "data_source", "image_classes", "references", "intended_use", "eval_metrics"),
}
# What the consumers look up in inference configurations.
INFERENCE_IDS = {
    *("bundle_root", "device", "dataset_dir", "dataset", "evaluator", "network_def", "network", "inferer"),
    *("preprocessing", "postprocessing", "handlers"),
}
# Import name to the name of the distribution, where they differ.
DISTRIBUTIONS = {"ignite": "pytorch-ignite", "PIL": "pillow", "sklearn": "scikit-learn", "yaml": "PyYAML"}
# Have versions of their own in the metadata, or serve what a bundle does without (the extras of pyproject.toml).
NOT_REQUIRED = {
    *("torch", "monai", "numpy", "triton", "mamba_ssm", "mlflow", "pydicom", "highdicom", "jinja2"),
    *("onnx", "onnxruntime", "onnxscript"),
}
TASKS = ("inference", "inference_classification", "inference_segmentation", "inference_reconstruction")


def read(bundle, *names) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(bundle / "configs" / f"{name}.yaml") for name in names])
    parser["bundle_root"] = str(bundle)
    return parser


def metadata(bundle) -> dict:
    return json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))


def released(bundle):
    return [path for part in ("configs", "docs") for path in (bundle / part).rglob("*") if path.is_file()]


@each_bundle
def test_files(bundle):
    assert (bundle / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert "_v" not in bundle.name
    for path in released(bundle):
        assert path.suffix in (".yaml", ".json", ".conf", ".md", ".txt"), path
        assert path.stat().st_size < LARGEST_BYTES / 100, path
        assert not path.is_symlink(), path
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/(home|root|Users|work|tmp)/\w", text), path
        if path.suffix == ".yaml":
            assert text.isascii(), path
    names = {path.name for path in released(bundle)}
    assert {"train.yaml", "evaluate.yaml", "inference.yaml", "multi_gpu.yaml", "tracking.yaml"} <= names


@each_bundle
def test_model_card_has_the_usual_sections(bundle):
    text = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [heading for heading in headings if heading in HEADINGS] == list(HEADINGS)
    assert text.startswith(f"# {bundle.name}\n")
    assert "License: Apache-2.0" in text


@each_bundle
def test_metadata_agree_with_versions_and_lock(bundle):
    content = metadata(bundle)
    assert content.keys() >= FIELDS
    assert "optional_packages_version" not in content, "MONAI lets it replace the required packages"
    newest = max(content["changelog"], key=lambda version: tuple(int(part) for part in version.split(".")))
    assert content["version"] == newest
    # MONAI compares versions as text.
    assert re.fullmatch(r"\d\.\d\.\d", content["version"])
    assert f"## {custom_networks.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    lock = {name.lower(): version for name, _, version in (line.partition("==") for line in lines)}
    packages = {
        "monai": content["monai_version"],
        "torch": content["pytorch_version"],
        "numpy": content["numpy_version"],
    }
    for name, version in (packages | content["required_packages_version"]).items():
        assert lock[name.lower()] == version, name


def imported(folder) -> set[str]:
    """Top-level names of other projects that the code of a folder imports, also within functions."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - {"custom_apps", "custom_networks"}


@each_bundle
def test_required_packages_are_complete(bundle):
    """A fresh environment is made from them."""
    (room,) = (
        path.parent for path in (ROOT / "custom_apps").glob("*/room.py") if f'"{bundle.name}"' in path.read_text()
    )
    names = set().union(*map(imported, (ROOT / "custom_networks", ROOT / "custom_apps" / "common", room)))
    needed = {DISTRIBUTIONS.get(name, name) for name in names - NOT_REQUIRED}
    # MONAI's command line.
    assert needed | {"fire", "tqdm"} <= metadata(bundle)["required_packages_version"].keys()


@each_bundle
def test_first_input_and_output_are_described(bundle):
    formats = metadata(bundle)["network_data_format"]
    assert next(iter(formats["inputs"])) == "image"
    assert next(iter(formats["outputs"])) == "pred"
    for tensor in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        assert sorted(tensor["channel_def"], key=int) == [str(i) for i in range(tensor["num_channels"])]


@each_bundle
def test_logging_configuration_is_literal(bundle):
    parser = configparser.RawConfigParser()
    parser.read(bundle / "configs" / "logging.conf")
    for section in parser.sections():
        if section.startswith("handler_"):
            assert parser[section]["class"] in ("StreamHandler", "FileHandler")
            assert parser[section]["args"] in ("(sys.stdout,)", "(sys.stderr,)")


@each_bundle
def test_code_is_named_by_target_and_found_first(bundle):
    """An ``import`` of ours would run before the bundle is on the path."""
    for path in sorted((bundle / "configs").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\$\s*(import|from)\s+custom_", text), path
        content = ConfigParser.load_config_file(str(path))
        for name in ("initialize", "initialize_distributed"):
            if name in content:
                assert content[name][0] == "@bundle_on_path", path


@each_bundle
def test_handlers_are_lists_that_tools_can_walk(bundle):
    parser = read(bundle, "train")
    for name in ("train::handlers", "validate::handlers"):
        assert isinstance(parser[name], list)
        for handler in parser[name]:
            # MONAI looks into them, which works for copied text (%id) and fails for references (@id).
            assert isinstance(handler, dict) or handler.startswith("%"), (name, handler)
            assert "_target_" in (handler if isinstance(handler, dict) else parser[handler[1:]]), name
    assert isinstance(read(bundle, "inference")["handlers"], list)


@each_bundle
def test_inference_has_what_label_and_deploy_look_up(bundle):
    """Both build these items alone, without ``initialize``, and take the chains apart."""
    present = [name for name in TASKS[1:] if (bundle / "configs" / f"{name}.yaml").is_file()]
    for names in (("inference",), *(("inference", name) for name in present)):
        parser = read(bundle, *names)
        assert not [name for name in INFERENCE_IDS if name not in parser], names
        for name in ("preprocessing", "postprocessing"):
            assert isinstance(parser.get_parsed_content(name), Compose), (names, name)
        assert callable(parser.get_parsed_content("inferer"))


@each_bundle
def test_inference_workflow_is_made_without_data_or_weights(bundle, tmp_path):
    """Tools open a bundle to look at it before there is anything to predict."""
    workflow = create_workflow(
        "ConfigWorkflow",
        config_file=str(bundle / "configs" / "inference.yaml"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="infer",
        bundle_root=str(bundle),
        dataset_dir=str(tmp_path),
    )
    assert workflow.version == metadata(bundle)["version"]
    assert isinstance(workflow.network_def, torch.nn.Module)


def test_label_predicts_one_image_with_the_chains(tmp_path):
    """MONAI Label gives the path of an image and applies the parts one by one."""
    data = write_ct_phantom(tmp_path, cases=1, test_cases=1, shape=(16, 24, 24))
    (image,) = (data / "imagesTs").iterdir()
    parser = read(ROOT / "bundles" / "umamba_seg", "inference")
    parser["output_dir"] = str(tmp_path / "out")
    item = {"image": str(image)}
    for transform in parser.get_parsed_content("preprocessing").transforms:
        item = transform(item)
    network = parser.get_parsed_content("network_def").eval()
    with torch.no_grad():
        item["pred"] = parser.get_parsed_content("inferer")(item["image"][None], network)[0]
    for transform in parser.get_parsed_content("postprocessing").transforms:
        item = transform(item)
    (label,) = (tmp_path / "out").iterdir()
    assert nibabel.load(label).shape == nibabel.load(image).shape
