"""The audit: the collection's bundles pass, whole and packed; every kind of hostile content is found and never runs."""

import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch

from custom_apps.cli import main
from custom_apps.common.audit import audit
from custom_apps.common.audit_expressions import check_expression
from custom_apps.common.audit_targets import target_problem
from custom_apps.common.packing import pack
from tests.bundles.bundle_cli import ROOT

BUNDLES = sorted(path.parent.parent for path in ROOT.glob("bundles/*/configs/metadata.json"))
CLEAN = """
imports: [$import os]
bundle_root: .
network_class: {_target_: torch.nn.Conv3d, _mode_: callable, in_channels: 1}
network_def: $@network_class(out_channels=2, kernel_size=3)
"""


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "train.yaml").write_text(CLEAN)
    return folder


def problems(bundle):
    return [finding.problem for finding in audit(bundle).findings]


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_bundles_of_the_collection_pass(folder):
    found = audit(folder)
    assert found.findings == []
    assert found.targets
    assert found.expressions
    assert set(found.imports) <= {"os", "sys", "time"}


def test_a_released_archive_passes_and_a_changed_one_does_not(tmp_path):
    archive, _ = pack(ROOT / "bundles" / "umamba_seg", tmp_path)
    found = audit(archive)
    assert found.findings == []
    with zipfile.ZipFile(archive) as file:
        assert not [name for name in file.namelist() if str(ROOT).encode() in file.read(name)]
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("umamba_seg/custom_networks/evil.py", "import os")
        file.writestr("umamba_seg/custom_apps/page.jinja", "{{ self }}")
        file.writestr("umamba_seg/torch.py", "import os")
    assert [finding.file for finding in audit(archive).findings] == [
        "umamba_seg/custom_apps/page.jinja",
        "umamba_seg/custom_networks/evil.py",
        "umamba_seg/torch.py",
    ]
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("../outside", "x")
    (finding,) = audit(archive).findings
    assert "leads out of the folder" in finding.problem


def test_the_clean_bundle_passes(bundle):
    assert problems(bundle) == []


# Each would run a command, read a secret, write or read elsewhere, or hide what it does.
EXPRESSIONS = [
    "$__import__('os').system('true')",
    "$os.system('true')",
    "$os.path.os.system('true')",
    "$[c for c in ().__class__.__base__.__subclasses__()]",
    "$(lambda f: f('true'))(print)",
    "$lambda os: os.system('true')",
    "$open('file', 'w').write('x')",
    "$eval('1')",
    "$exec('1')",
    "$getattr(1, 'real')",
    "$torch.load('x.pt')",
    "$torch.hub.load('a/b', 'c')",
    "$monai.bundle.run",
    "$monai.bundle.scripts.os.system('true')",
    "$np.load('x.npy', allow_pickle=True)",
    "$os",
    "$os.environ",
    "$os.environ['HOME']",
    "$sys.path.insert(0, 'evil')",
    "$sys.modules['os']",
    "$(x for x in [1]).gi_frame.f_builtins['eval']",
    "$'{0.__class__}'.format(1)",
    "$f'{os.system(1)}'",
    "$@network_def.forward.__globals__['os']",
    "$@model.folder.write_text('x')",
    "$@model.folder.unlink",
    "$@bundle_root('true')",
    "$@nowhere('true')",
    "$@network_def.to('cpu')('x')",
    "$'/etc/passwd'",
    "$@bundle_root + '/../../secrets'",
    "$'@x' + 'y'",
    "$import subprocess",
    "$import os as torch",
    "$from os import system",
    "$import os; evil()",
    "$(x := 1)",
    "$type('T', (), {})",
    "$1 +",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_hostile_expressions(bundle, expression):
    (bundle / "configs" / "inference.json").write_text(json.dumps({"model": {"_target_": "UNet"}, "evil": expression}))
    (bundle / "configs" / "train.yaml").write_text(CLEAN + f"run: [{json.dumps(expression)}]\n")
    found = audit(bundle).findings
    assert {(finding.file, finding.key) for finding in found} == {
        ("configs/inference.json", "evil"),
        ("configs/train.yaml", "run::0"),
    }
    assert {finding.text for finding in found} == {expression}


TARGETS = [
    "os.system",
    "subprocess.run",
    "builtins.eval",
    "eval",
    "custom_apps.common.run_record.subprocess.run",
    "custom_apps.common.run_record.git_commit",
    "custom_apps.common.partial_file.write_text",
    "custom_apps.common.room.imported",
    "custom_apps.common.table.write_csv",
    "custom_apps.common.fold_run.run_folds",
    "custom_apps.cli.main",
    "custom_networks.ops._native_build.ctypes",
    "custom_networks.missing.Net",
    "monai.bundle.run",
    "monai.apps.download_url",
    "monai.losses.PerceptualLoss",
    "PerceptualLoss",
    "download_url",
    "torch.load",
    "torch.hub.load",
    "torch.nn.modules.module.os.system",
    "torch.utils.cpp_extension.load_inline",
    "numpy.load",
    "$os.system",
    "%configs/other.yaml::x",
    "@bundle_root",
    "@network_def",
    "",
]


@pytest.mark.parametrize("target", TARGETS)
def test_hostile_targets(bundle, target):
    (bundle / "configs" / "evaluate.yaml").write_text(f"evil: {{_target_: {json.dumps(target)}}}\n")
    assert {(finding.key, finding.text) for finding in audit(bundle).findings} == {("evil::_target_", target)}


@pytest.mark.parametrize(
    "text",
    [
        "network_def::_target_: os.system",
        "network_class#_target_: os.system",
        "+network_class: {_target_: os.system}",
        "network_class::_mode_: debug",
        "x: {_target_: UNet, _debug_: true}",
        "x: {_target_: UNet, _target_: os.system}",
        "x: &a os.system\ny: {_target_: *a}",
        "x: {_target_: PersistentDataset, weights_only: false}",
        "x: {_target_: NumpyReader, allow_pickle: true}",
        "x: !!python/object/apply:os.system ['true']",
        "x: '%/tmp/other.yaml::y'",
        "dataset_dir: /home/somebody/data",
        "dataset_dir: ~/data",
        "dataset_dir: ../other/data",
        "dataset_dir: 'C:\\data'",
        "x: &a {<<: {_target_: os.system}}",
        "x: [1",
    ],
)
def test_what_hides_in_a_configuration(bundle, text):
    (bundle / "configs" / "overlay.yaml").write_text(text + "\n")
    assert problems(bundle), text


def test_aliases_that_multiply_end_the_reading(bundle):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (bundle / "configs" / "overlay.yaml").write_text("\n".join(lines))
    assert "more than 100000 values" in problems(bundle)[0]


class Payload:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("name", ["models/model.pt", "models/model.pkl", "models/weights", "models/legacy.pth"])
def test_pickles(bundle, tmp_path, name):
    path = bundle / name
    path.parent.mkdir()
    if name.endswith("model.pt"):
        torch.save({"w": torch.zeros(1), "x": Payload(tmp_path / "ran")}, path)
    else:
        path.write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    (finding,) = audit(bundle).findings
    assert finding.file == name
    assert not (tmp_path / "ran").exists()


def test_weights_of_tensors_pass_and_objects_in_arrays_do_not(bundle):
    (bundle / "models").mkdir()
    network = torch.nn.BatchNorm2d(2)
    content = {"network": network.state_dict(), "optimizer": torch.optim.AdamW(network.parameters()).state_dict()}
    content |= {
        "half": torch.zeros(1, dtype=torch.bfloat16),
        "epoch": 3,
        "rate": np.float64(0.1),
        "size": torch.Size([1]),
    }
    torch.save(content, bundle / "models" / "last.pt")
    np.save(bundle / "models" / "numbers.npy", np.zeros(3))
    assert problems(bundle) == []
    np.savez(bundle / "models" / "objects.npz", a=np.array([{}], dtype=object))
    (finding,) = audit(bundle).findings
    assert finding.file == "models/objects.npz"


def test_code_links_and_logging(bundle, tmp_path):
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "net.py").write_text("")
    (bundle / "scripts" / "run").write_bytes(b"#!/bin/sh\n")
    (bundle / "outside").symlink_to(tmp_path)
    (bundle / "configs" / "metadata.json").symlink_to("/etc/passwd")
    (bundle / "configs" / "logging.conf").write_text(
        "[handler_x]\nclass=StreamHandler\nargs=(__import__('os').system('true'),)\n"
    )
    with zipfile.ZipFile(bundle / "model.pt", "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(None, protocol=2))
        archive.writestr("model/code/__torch__.py", "")
    shutil.copy(bundle / "model.pt", bundle / "model.ts")
    shutil.copy(bundle / "model.pt", bundle / "more.zip")
    assert [finding.file for finding in audit(bundle).findings] == [
        *("configs/logging.conf", "configs/metadata.json", "model.pt", "model.ts", "more.zip", "outside"),
        *("scripts/net.py", "scripts/run"),
    ]


def test_large_files_need_a_place_a_digest_and_encryption(bundle):
    entries = [
        {"path": "models/model.pt", "url": "https://example.org/model.pt", "hash_val": "00", "hash_type": "sha256"},
        {"path": "../model.pt", "url": "http://example.org/model.pt", "hash_val": "", "hash_type": "sha256"},
    ]
    (bundle / "large_files.yml").write_text(json.dumps({"large_files": entries}))
    assert [finding.key for finding in audit(bundle).findings] == [
        f"large_files::1::{name}" for name in ("hash_val", "path", "url")
    ]


def test_own_folders_of_results_are_left_out(bundle):
    (bundle / "eval").mkdir()
    (bundle / "eval" / "config_1.json").write_text('{"dataset_dir": "/home/somebody/data"}')
    assert problems(bundle) == []


def test_what_may_be_said():
    for text in ("$@a + '/b'", "$[p for p in @xs if p > 0]", "$lambda a, b: a < b", "$len(@x::y) // 2", "$not @a"):
        assert check_expression(text) == ([], set())
    assert check_expression("$@a(training=False, **@b)") == ([], {"a"})
    for target in ("UNet", "monai.networks.nets.UNet", "LoadImaged", "LoadImageD", "torch.optim.AdamW", "numpy.mean"):
        assert target_problem(target) is None


def test_command_line(bundle, tmp_path, capsys):
    assert main(["audit", str(bundle)]) == 0
    printed = capsys.readouterr().out
    assert "torch.nn.Conv3d" in printed
    assert "$@network_class(out_channels=2, kernel_size=3)" in printed
    (bundle / "configs" / "a.yaml").write_text("x: \"$os.system('\\e[2J')\"\n")
    assert main(["audit", str(bundle), "--quiet"]) == 1
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "configs/a.yaml" in printed
    assert main(["audit", str(bundle), "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["key"] == "x"
    assert main(["audit", str(tmp_path / "absent")]) == 1
    with pytest.raises(SystemExit) as usage:
        main(["audit"])
    assert usage.value.code == 2
