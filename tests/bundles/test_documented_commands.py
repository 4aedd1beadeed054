"""What README and model cards tell to type works.

Every command in a fenced block is checked against what it calls; one that cannot be checked fails. Cheap ones (`RUN`,
and the prediction of ``umamba_seg``) are also run word for word on phantom data, with placeholders (DATASET, OUT, ...)
filled in and, where they would take long, sizes appended (`SMALLER`). The others train or predict at published sizes:
the tests of each bundle run their configurations with small networks.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil

import fire
import monai.bundle
import nibabel
import pytest
import torch
import yaml
from torch.distributed.run import get_args_parser as torchrun_options

from custom_apps.brain.phantom import write_glioma_phantom
from custom_apps.cli import main
from custom_apps.cli import parser as command_line
from custom_apps.common.fold_run import run_folds
from custom_apps.echo.phantom import write_echonet_phantom
from custom_apps.echo.phantom_camus import write_camus_phantom
from custom_apps.seg.model_folder import open_model
from custom_apps.seg.phantom_cbct import write_stsr_phantom, write_toothfairy3_phantom
from custom_apps.seg.phantom_ct import write_ct_phantom
from custom_apps.thyroid.phantom import write_thyroid_phantom
from custom_networks.published import export
from tests.bundles.bundle_cli import ROOT
from tests.bundles.conftest import BUNDLES
from tests.bundles.documented_commands import BUNDLE_COMMANDS, DOCUMENTS, Command, blocks, check, commands

RUN = ("check", "phantom", "prepare", "convert")
SMALLER = {
    "phantom": ("--cases", "4", "--test-cases", "1"),
    "prepare brain_idh_ssm_mae": ("--size", "40", "--spacing-mm", "8"),
}
CARDS = [document for document in DOCUMENTS if document.parts[-2] == "docs"]


def name_of(document) -> str:
    return document.stem if document.parent == ROOT else document.parts[-3]


def filled(command: Command, **placeholders: object) -> list[Command]:
    """The command; of one for any bundle, as many as there are bundles."""
    if not any("BUNDLE" in word for word in command.words):
        return [command.filled(**placeholders)] if placeholders else [command]
    return [command.filled(BUNDLE=bundle.name, **placeholders) for bundle in BUNDLES]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_command_calls_what_exists(document):
    found = commands(document)
    assert found
    for command in found:
        for one in filled(command):
            check(one)


@pytest.mark.parametrize(
    "words",
    [
        "python -m monai.bundle run --config_file bundles/umamba_seg/configs/train.yaml --epoch 3",
        "python -m monai.bundle run --config_file bundles/umamba_seg/configs/training.yaml",
        "python -m monai.bundle download --address URL",
        "python -m custom_apps folds brain_idh_ssm_mae --overlays codeletions",
        "python -m custom_apps checks umamba_seg DATASET",
        "make demonstration",
        "curl URL",
    ],
)
def test_commands_that_do_not_work_are_found(words):
    with pytest.raises((AssertionError, SystemExit)):
        check(Command(ROOT / "README.md", tuple(words.split())))


@pytest.mark.parametrize("card", CARDS, ids=name_of)
def test_options_and_overlays_in_the_text_exist(card):
    configs = sorted((card.parents[1] / "configs").glob("*.yaml"))
    known = {key.partition("::")[0] for config in configs for key in yaml.safe_load(config.read_text(encoding="utf-8"))}
    for config in configs:
        known |= set(yaml.safe_load(config.read_text(encoding="utf-8")).get("configs", {}))
    for function in (*BUNDLE_COMMANDS.values(), run_folds):
        known |= set(inspect.signature(function).parameters)
    known |= set(re.findall(r"--([\w-]+)", help_of_all_commands()))
    known |= set(re.findall(r"--([\w-]+)", torchrun_options().format_help()))
    known = {option.replace("-", "_") for option in known}
    text = card.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", prose)
    named = {option.replace("-", "_") for span in spans for option in re.findall(r"(?<![\w-])--([a-z][\w-]*)", span)}
    assert named
    assert named <= known
    names = {name for span in spans for name in re.findall(r"(\w+\.yaml)", span)}
    assert names <= {config.name for config in configs}


def help_of_all_commands() -> str:
    """Help of the command line and of each of its commands."""
    (commands_of,) = (action for action in command_line()._actions if hasattr(action, "choices") and action.choices)
    return "".join(one.format_help() for one in commands_of.choices.values())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Bundle to what the names of data in its documents stand for."""
    folder = tmp_path_factory.mktemp("data")
    ct = write_ct_phantom(folder, cases=3, test_cases=1, shape=(16, 24, 24))
    stsr = write_stsr_phantom(folder, cases=1, test_cases=1, size=24, unlabeled=1)
    toothfairy3 = write_toothfairy3_phantom(folder, cases=1, size=24)
    echo = write_echonet_phantom(folder, cases=3, test_cases=1, frames=(20, 30), size=32)
    camus = write_camus_phantom(folder, cases=2, test_cases=1, size=48, prepare=False)
    glioma = write_glioma_phantom(folder, cases=2, size=24, unknown_every=0)
    thyroid = write_thyroid_phantom(folder, cases=12, test_cases=2, layout="tn3k", size=96)
    return {
        "umamba_seg": {"DATASET": ct, "IMAGES": ct / "imagesTs", "RAW": stsr, "TOOTHFAIRY3": toothfairy3},
        "echo_ef_mamba3d": {"DATASET": echo, "CAMUS": camus},
        "brain_idh_ssm_mae": {"RAW": glioma},
        "thyroid_deblur_mae": {"DATASET": thyroid},
    }


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder like the repository's root as far as bundles are concerned, to write in."""
    shutil.copytree(ROOT / "bundles", tmp_path / "bundles", ignore=shutil.ignore_patterns("models", "eval", "prepared"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def published_checkpoint(folder) -> None:
    """A checkpoint as nnU-Net's trainer writes them, of a network with random weights."""
    model = open_model(folder)
    torch.manual_seed(0)
    plans = json.loads((model.folder / "plans.json").read_text(encoding="utf-8"))
    init = {"plans": plans, "configuration": model.configuration.name, "dataset_json": model.dataset_json}
    content = {"network_weights": export("umamba", model.network(deep_supervision=True)), "init_args": init}
    torch.save(content | {"trainer_name": "nnUNetTrainerUMambaBot"}, "checkpoint_final.pth")


@pytest.mark.parametrize("card", CARDS, ids=name_of)
def test_cheap_commands_run(card, data, workspace):
    bundle = name_of(card)
    places = {name: workspace / name for name in ("FOLDER", "DATA", "OUT")}
    places |= {"MODEL_FOLDER": "bundles/umamba_seg/models"} | data[bundle]
    if bundle == "umamba_seg":
        published_checkpoint("bundles/umamba_seg/configs/phantom_model")
    ran = []
    for command in commands(card):
        if command.words[:3] == ("python", "-m", "custom_apps") and command.words[3] in RUN:
            arguments = command.filled(**places).words[3:]
            sizes = SMALLER.get(arguments[0]) or SMALLER.get(" ".join(arguments[:2]), ())
            assert main([*arguments, *sizes]) == 0, str(command)
            ran.append(arguments[0])
    assert {"check", "phantom"} <= set(ran)
    if bundle != "umamba_seg":
        return

    config = "bundles/umamba_seg/configs/inference.yaml"
    (predict,) = (one for one in commands(card) if "run" in one.words and config in one.words)
    fire.Fire({"run": monai.bundle.run}, command=list(predict.filled(**places).words[3:]), serialize=lambda _: "")
    (predicted,) = places["OUT"].glob("*.nii.gz")
    (image,) = data[bundle]["IMAGES"].glob("*.nii.gz")
    assert nibabel.load(predicted).shape == nibabel.load(image).shape

    shutil.copy(image, "case_0000.nii.gz")
    names = {}
    for program in (text for language, text in blocks(card) if language == "python"):
        exec(program, names)
    assert names["client"].train_kwargs == {"dataset_dir": "DATASET", "plans_file": "plans.json"}
    assert (names["labels"] == nibabel.load(predicted).get_fdata().transpose()).all()


def test_readme_checks_any_bundle(data, workspace):
    (command,) = (one for one in commands(ROOT / "README.md") if one.words[3:4] == ("check",))
    for bundle in ("umamba_seg", "echo_ef_mamba3d", "thyroid_deblur_mae"):
        one = command.filled(BUNDLE=bundle, DATASET=data[bundle]["DATASET"])
        assert main([*one.words[3:]]) == 0, str(one)
