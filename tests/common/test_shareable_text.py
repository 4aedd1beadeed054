import getpass
import json
import platform
import sys

import pytest

from custom_apps.common.run_record import RunRecord
from custom_apps.common.shareable_text import shareable_text


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/anna/data", "~/data"),
        ("--dataset_dir=/home/anna", "--dataset_dir=~"),
        ("['/home/anna/a', '/home/anna/b']", "['~/a', '~/b']"),
        ("/home/annabel/data", "/home/annabel/data"),
        ("bundles/umamba_seg", "bundles/umamba_seg"),
        ("http://anna:secret@example.org:5000/x", "http://***@example.org:5000/x"),
        ("postgresql://token@host/db", "postgresql://***@host/db"),
        ("https://example.org/a@b", "https://example.org/a@b"),
    ],
)
def test_home_and_credentials(text, expected):
    assert shareable_text(text) == expected


def test_without_a_home_nothing_is_replaced(monkeypatch):
    monkeypatch.setenv("HOME", "/")
    assert shareable_text("/data") == "/data"


def test_a_run_record_names_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run", "--tracking_uri", "https://anna:secret@example.org"])
    monkeypatch.setenv("SOME_TOKEN", "secret-of-the-environment")
    path = tmp_path / "run.json"
    with pytest.raises(ValueError, match="anna"), RunRecord(path, {"dataset_dir": "/home/anna/data", "n": [1]}):
        raise ValueError("/home/anna/data: no such folder")
    text = path.read_text()
    content = json.loads(text)
    assert content["command"] == ["run", "--tracking_uri", "https://***@example.org"]
    assert content["config"] == {"dataset_dir": "~/data", "n": [1]}
    assert content["outcome"] == "failed: ValueError: ~/data: no such folder"
    assert "anna" not in text
    assert "secret" not in text
    assert not {platform.node(), getpass.getuser()} & set(content["machine"].replace(",", " ").split())
