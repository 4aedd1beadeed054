"""The way of a user who has the release and not this repository: list, download, check, unpack, train, predict."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
import yaml
from monai.apps.utils import HashCheckError
from monai.bundle import (
    download,
    download_large_files,
    get_all_bundles_list,
    get_bundle_info,
    get_bundle_versions,
    load,
    scripts,
)

from custom_apps.common.large_files import read_large_files
from custom_apps.common.release_index import write_release_index
from custom_apps.seg.model_folder import open_model
from custom_apps.seg.phantom_ct import write_ct_phantom
from tests.bundles.bundle_cli import bundle_command, run, run_alone
from tests.bundles.conftest import BUNDLES


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def served(dist, tmp_path_factory):
    """Address and folder of a server on this machine that has the archives."""
    folder = shutil.copytree(dist, tmp_path_factory.mktemp("server") / "files")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    index = json.loads((folder / "model_info.json").read_text())
    write_release_index({folder / f"{name}.zip": entry["checksum"] for name, entry in index.items()}, folder, address)
    yield address, folder
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.slow
def test_archive_is_downloaded_by_address_and_runs_by_itself(served, tmp_path):
    address, folder = served
    home = tmp_path / "home"
    source = f"{address}/umamba_seg_v0.1.0.zip"
    command = ["-m", "monai.bundle", "download", "--name", "umamba_seg", "--url", source, "--bundle_dir", str(home)]
    run(command, cwd=tmp_path)
    index = json.loads((folder / "model_info.json").read_text())
    assert digest(home / "umamba_seg.zip") == index["umamba_seg_v0.1.0"]["checksum"]

    bundle = home / "umamba_seg"
    data = write_ct_phantom(tmp_path / "data", cases=5, test_cases=1, shape=(16, 24, 24))
    small = {
        "dataset_dir": data,
        "plan_overrides": {"batch_size": 2, "patch_size": [16, 24, 24], "first_features": 4},
        "iterations": 3,
        "val_iterations": 2,
        "val_interval": 1,
        "epochs": 1,
    }
    # In its folder; then from elsewhere, by the JSON twins.
    run_alone(bundle_command(["configs/train.yaml", "configs/demo.yaml"], **small), cwd=bundle)
    configs = [bundle / "configs" / f"{name}.json" for name in ("train", "demo", "evaluate")]
    run_alone(bundle_command(configs, **small, part="test", bundle_root=bundle), cwd=tmp_path)
    run_alone(bundle_command(["configs/inference.yaml"], dataset_dir=data / "imagesTs"), cwd=bundle)

    with open(bundle / "eval" / "metrics.csv", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert np.isfinite(float(row["train_loss"]))
    assert len(json.loads((bundle / "eval" / "test" / "summary.json").read_text())["metric_per_case"]) == 1
    (predicted,) = (bundle / "eval" / "predictions").glob("*.nii.gz")
    (evaluated,) = (bundle / "eval" / "test" / "predictions").glob("*.nii.gz")
    assert digest(predicted) == digest(evaluated)
    assert json.loads((bundle / "eval" / "run.json").read_text())["git_commit"] is None
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("home", "data")] == []


def test_versions_are_listed_and_downloaded_by_name(served, tmp_path, monkeypatch):
    address, folder = served
    asked = []
    get = requests.get

    def index(url, **_):
        asked.append(url)
        return get(f"{address}/model_info.json", timeout=10)

    monkeypatch.setattr(requests, "get", index)
    place = {"repo": "owner/name", "tag": "v1"}
    assert get_all_bundles_list(**place) == [(bundle.name, "0.1.0") for bundle in BUNDLES]
    versions = get_bundle_versions("echo_ef_mamba3d", **place)
    assert versions == {"latest_version": "0.1.0", "all_versions": ["0.1.0"]}
    source = get_bundle_info("echo_ef_mamba3d", **place)["browser_download_url"]
    assert source == f"{address}/echo_ef_mamba3d_v0.1.0.zip"
    assert set(asked) == {"https://raw.githubusercontent.com/owner/name/v1/models/model_info.json"}

    monkeypatch.setattr(
        scripts, "_get_git_release_url", lambda owner, name, tag_name, filename: f"{address}/{filename}"
    )
    for bundle in BUNDLES:
        options = {"source": "github", "repo": "owner/name/v1", "progress": False}
        # Without a version the latest of the index is taken.
        version = {} if bundle.name == "echo_ef_mamba3d" else {"version": "0.1.0"}
        download(bundle.name, bundle_dir=tmp_path, **version, **options)
        archive = f"{bundle.name}_v0.1.0.zip"
        assert (tmp_path / archive).read_bytes() == (folder / archive).read_bytes()
        assert (tmp_path / bundle.name / "configs" / "inference.json").is_file()


def test_weights_kept_elsewhere_are_downloaded_and_load(served, unpacked, tmp_path, monkeypatch):
    address, folder = served
    network = open_model(unpacked / "umamba_seg" / "configs" / "phantom_model").network()
    torch.save(network.state_dict(), folder / "model.pt")
    bundle = Path(shutil.copytree(unpacked / "umamba_seg", tmp_path / "umamba_seg"))
    entry = {"path": "models/model.pt", "url": f"{address}/model.pt", "hash_type": "sha256"}

    def list_with(value: str) -> None:
        (bundle / "large_files.yml").write_text(yaml.safe_dump({"large_files": [entry | {"hash_val": value}]}))

    list_with("0" * 64)
    with pytest.raises(HashCheckError):
        download_large_files(str(bundle))
    assert not (bundle / "models" / "model.pt").exists()
    list_with(digest(folder / "model.pt"))
    download_large_files(str(bundle))
    assert len(read_large_files(bundle)) == 1

    monkeypatch.chdir(bundle)
    loaded = load("umamba_seg", bundle_dir=tmp_path, workflow_type="inference", device="cpu")
    for ours, theirs in zip(loaded.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
