"""Release archives: reproducible, complete, nothing in them that does not belong there, and running on their own."""

import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from custom_apps.cli import main
from custom_apps.common.errors import DataError
from custom_apps.common.large_files import read_large_files
from custom_apps.common.packing import LARGEST_BYTES, pack
from tests.bundles.bundle_cli import ROOT, run_alone
from tests.bundles.conftest import BUNDLES

BUNDLE = ROOT / "bundles" / "umamba_seg"


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(BUNDLE, tmp_path / "copy" / "umamba_seg"))


def names(path):
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2] for name in archive.namelist()}


def test_archives_depend_on_content_alone(copy, dist, tmp_path):
    for file in copy.rglob("*"):
        os.utime(file, (1_000_000_000, 1_000_000_000))
        file.chmod(0o700)
    for name in ("eval/run.json", "data/case.nii.gz", "prepared/a.b2nd", "models/model.pt", "docs/.hidden", "notes~"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"not released")
    path, _ = pack(copy, tmp_path / "again")
    assert path.name == "umamba_seg_v0.1.0.zip"
    assert path.read_bytes() == (dist / path.name).read_bytes()


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_archive_holds_what_is_needed_and_no_more(bundle, dist, unpacked):
    (path,) = dist.glob(f"{bundle.name}_v*.zip")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    assert {entry.filename.split("/")[0] for entry in entries} == {bundle.name}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
    assert len({entry.filename.lower() for entry in entries}) == len(entries)
    assert max(entry.file_size for entry in entries) < LARGEST_BYTES
    released = names(path)
    assert {"LICENSE", "large_files.yml", "docs/README.md", "docs/data_license.txt"} <= released
    assert {"configs/metadata.json", "configs/logging.conf", "configs/inference.yaml"} <= released
    assert {"custom_networks/__init__.py", "custom_networks/ops/csrc/scan.cpp", "custom_apps/cli.py"} <= released
    assert not [name for name in released if "__pycache__" in name or name.startswith(("models", "eval", "data"))]
    for file in (unpacked / bundle.name).rglob("*"):
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            assert not [place for place in (str(ROOT), str(Path.home()) + "/") if place in text], file


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_json_twins_say_the_same(bundle, unpacked):
    configs = unpacked / bundle.name / "configs"
    for path in configs.glob("*.yaml"):
        twin = ConfigParser.load_config_file(str(path.with_suffix(".json")))
        assert twin == json.loads(json.dumps(ConfigParser.load_config_file(str(path)))), path.name
    assert {path.stem for path in configs.glob("*.json")} >= {path.stem for path in configs.glob("*.yaml")}


def test_released_network_comes_from_the_archive(unpacked):
    bundle = unpacked / "umamba_seg"
    code = (
        "import importlib.util as u; assert not u.find_spec('custom_networks') and not u.find_spec('custom_apps'); "
        "from monai.bundle import ConfigParser; parser = ConfigParser(); "
        f"parser.read_config('configs/inference.json'); parser['bundle_root'] = {str(bundle)!r}; "
        "network = parser.get_parsed_content('network_def'); import custom_networks; print(custom_networks.__file__)"
    )
    # From the folder of another bundle's configurations, so that nothing is found by chance.
    output = run_alone(["-c", code.replace("configs/", f"{bundle}/configs/")], cwd=unpacked)
    assert output.strip().endswith(str(bundle / "custom_networks" / "__init__.py"))


def test_weights_are_packed_on_demand_but_no_training_state(copy, tmp_path):
    (copy / "models").mkdir()
    for name in ("model.pt", "plans.json", "last.pt", "last.1.pt", "model.1.pt", "big.pt", ".model.pt.1.partial.pt"):
        (copy / "models" / name).write_bytes(b"weights")
    entry = {"path": "models/big.pt", "url": "https://example.org/big.pt", "hash_type": "sha256"}
    digest = "9a129038c9aebc156f3714fd2278e150950ffbbbb06c5eb52ec6f94d4b10ac93"
    (copy / "large_files.yml").write_text(json.dumps({"large_files": [entry | {"hash_val": digest}]}))
    with pytest.raises(DataError, match=r"big\.pt: has another sha256 digest"):
        pack(copy, tmp_path)
    (copy / "models" / "big.pt").unlink()
    packed = names(pack(copy, tmp_path, models=True)[0])
    assert {name for name in packed if name.startswith("models")} == {"models/model.pt", "models/plans.json"}


def unknown_version(bundle):
    path = bundle / "configs" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": "9.9.9"}))


def another_name(bundle):
    path = bundle / "configs" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": "umamba"}))


def no_license(bundle):
    (bundle / "LICENSE").unlink()


def large_file(bundle):
    with open(bundle / "docs" / "figure.png", "wb") as file:
        file.truncate(LARGEST_BYTES + 1)


def no_digest(bundle):
    entry = {"path": "models/model.pt", "url": "https://example.org/model.pt", "hash_type": "sha256"}
    (bundle / "large_files.yml").write_text(json.dumps({"large_files": [entry]}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (unknown_version, r"version 9\.9\.9 has no entry"),
        (another_name, "names the bundle 'umamba'"),
        (no_license, "LICENSE: is missing"),
        (large_file, r"figure\.png: is larger than"),
        (no_digest, "entry 1 has no hash_val"),
    ],
)
def test_bundles_that_must_not_be_released_are_refused(copy, tmp_path, damage, message):
    damage(copy)
    with pytest.raises(DataError, match=message):
        pack(copy, tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_large_files_are_listed_with_digests(bundle):
    for entry in read_large_files(bundle):
        assert entry.path.startswith("models/")


def test_command_line_packs_and_indexes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    address = "https://example.org/files"
    assert main(["pack", "umamba_seg", "--output", str(tmp_path), "--url", address]) == 0
    digest, path = capsys.readouterr().out.split()
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == digest
    index = json.loads((tmp_path / "model_info.json").read_text())["umamba_seg_v0.1.0"]
    assert index == {"checksum": digest, "hash_type": "sha256", "source": f"{address}/umamba_seg_v0.1.0.zip"}
    assert (tmp_path / "SHA256SUMS").read_text() == f"{digest}  umamba_seg_v0.1.0.zip\n"
