"""The release archives, made and unpacked once for all tests of bundles."""

import zipfile

import pytest

from custom_apps.common.packing import pack
from custom_apps.common.release_index import write_release_index
from tests.bundles.bundle_cli import ROOT

BUNDLES = sorted(path.parent.parent for path in ROOT.glob("bundles/*/configs/metadata.json"))


@pytest.fixture(scope="session")
def dist(tmp_path_factory):
    """Folder with the archives of all bundles, ``model_info.json`` and ``SHA256SUMS``."""
    folder = tmp_path_factory.mktemp("dist")
    write_release_index(dict(pack(bundle, folder) for bundle in BUNDLES), folder)
    return folder


@pytest.fixture(scope="session")
def unpacked(dist, tmp_path_factory):
    """Folder with the unpacked archives."""
    folder = tmp_path_factory.mktemp("unpacked")
    for path in dist.glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    return folder
