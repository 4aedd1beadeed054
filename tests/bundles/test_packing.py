"""Release archives: reproducible, complete, and running on their own."""

import json
import shutil
import zipfile

import pytest

from custom_apps.common.errors import DataError
from custom_apps.common.packing import pack
from tests.bundles.bundle_cli import ROOT, run

BUNDLE = ROOT / "bundles" / "umamba_seg"


def test_archive_is_reproducible_and_runs_without_the_packages_installed(tmp_path):
    first, digest = pack(BUNDLE, tmp_path / "a")
    assert pack(BUNDLE, tmp_path / "b")[1] == digest
    assert first.name == "umamba_seg_v0.1.0.zip"
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path)
    assert {name.split("/")[0] for name in names} == {"umamba_seg"}
    unpacked = tmp_path / "umamba_seg"
    assert json.loads((unpacked / "configs" / "train.json").read_text())["epochs"] == 1000
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if 'editable' not in p]; "
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f)]; "
        "from monai.bundle import ConfigParser; parser = ConfigParser(); "
        f"parser.read_config('configs/inference.json'); parser['bundle_root'] = {str(unpacked)!r}; "
        "network = parser.get_parsed_content('network_def'); import custom_networks; print(custom_networks.__file__)"
    )
    output = run(["-c", code], cwd=unpacked, PYTHONPATH="")
    assert str(unpacked / "custom_networks") in output


def test_version_without_changelog_is_refused(tmp_path):
    bundle = shutil.copytree(BUNDLE / "configs", tmp_path / "bundle" / "configs").parent
    path = bundle / "configs" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": "9.9.9"}))
    with pytest.raises(DataError, match=r"version 9\.9\.9 has no entry"):
        pack(bundle, tmp_path)
