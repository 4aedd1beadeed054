"""``large_files.yml``: what is accepted, and that nothing without a digest is."""

import hashlib

import pytest
import yaml

from custom_apps.common.errors import DataError
from custom_apps.common.large_files import LargeFile, read_large_files

CONTENT = b"weights"
ENTRY = {
    "path": "models/model.pt",
    "url": "https://example.org/model.pt",
    "hash_val": hashlib.sha256(CONTENT).hexdigest(),
    "hash_type": "sha256",
}


def write(folder, entries):
    (folder / "large_files.yml").write_text(yaml.safe_dump({"large_files": entries}))
    return folder


def test_entries_are_read_and_present_files_compared(tmp_path):
    write(tmp_path, [ENTRY | {"hash_val": ENTRY["hash_val"].upper()}])
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.pt").write_bytes(CONTENT)
    assert read_large_files(tmp_path) == [LargeFile(**ENTRY)]
    (tmp_path / "models" / "model.pt").write_bytes(CONTENT + b"!")
    with pytest.raises(DataError, match=r"model\.pt: has another sha256 digest"):
        read_large_files(tmp_path)


def test_bundles_without_large_files(tmp_path):
    assert read_large_files(tmp_path) == []
    assert read_large_files(write(tmp_path, [])) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hash_val": None}, "has no hash_val"),
        ({"hash_val": ""}, "has no hash_val"),
        ({"hash_type": None}, "has no hash_type"),
        ({"hash_type": "md5", "hash_val": "0" * 32}, "hash_type 'md5'"),
        ({"hash_val": "0" * 63}, "no sha256 digest"),
        ({"hash_val": "z" * 64}, "no sha256 digest"),
        ({"path": "../model.pt"}, "leaves the bundle"),
        ({"path": "/model.pt"}, "leaves the bundle"),
        ({"path": None}, "has no path"),
        ({"url": "file:///model.pt"}, "is no address"),
        ({"url": None}, "has no url"),
    ],
)
def test_unsafe_entries_are_refused_by_number(tmp_path, change, message):
    good = ENTRY | {"path": "models/other.pt"}
    with pytest.raises(DataError, match=rf"large_files\.yml: entry 2.*{message}"):
        read_large_files(write(tmp_path, [good, ENTRY | change]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("large_files: {", "is not YAML"),
        ("files: []", "no list 'large_files'"),
        ("large_files:", "no list 'large_files'"),
        ("large_files: [model.pt]", "entry 1 is no mapping"),
    ],
)
def test_unreadable_lists_are_refused(tmp_path, text, message):
    (tmp_path / "large_files.yml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_large_files(tmp_path)


def test_a_path_may_be_named_once(tmp_path):
    with pytest.raises(DataError, match="names a path twice"):
        read_large_files(write(tmp_path, [ENTRY, ENTRY]))
