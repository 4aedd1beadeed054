"""The index beside release archives."""

import json
from pathlib import Path

import pytest

from custom_apps.common.errors import DataError
from custom_apps.common.release_index import write_release_index


def test_versions_add_up_and_sources_are_addresses(tmp_path):
    write_release_index({Path("elsewhere/b_v0.1.0.zip"): "1" * 64}, tmp_path)
    archives = {Path("b_v0.2.0.zip"): "2" * 64, Path("a_v0.1.0.zip"): "3" * 64}
    index = json.loads(write_release_index(archives, tmp_path, "https://example.org/files/").read_text())
    assert list(index) == ["a_v0.1.0", "b_v0.1.0", "b_v0.2.0"]
    assert index["b_v0.1.0"] == {"checksum": "1" * 64, "hash_type": "sha256", "source": "b_v0.1.0.zip"}
    assert index["b_v0.2.0"]["source"] == "https://example.org/files/b_v0.2.0.zip"
    digests = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert digests == ["3" * 64 + "  a_v0.1.0.zip", "1" * 64 + "  b_v0.1.0.zip", "2" * 64 + "  b_v0.2.0.zip"]


def test_an_index_that_cannot_be_read_is_kept(tmp_path):
    (tmp_path / "model_info.json").write_text("{")
    with pytest.raises(DataError, match=r"model_info\.json: is not JSON"):
        write_release_index({}, tmp_path)
    assert (tmp_path / "model_info.json").read_text() == "{"
