import json
import os

import pytest

from custom_apps.common.partial_file import partial_file, write_json, write_text


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "deep" / "a.nii.gz"
    with partial_file(path, ".nii.gz") as temporary:
        temporary.write_text("half")
        assert temporary.name.endswith(".nii.gz")
        assert not path.exists()
    assert path.read_text() == "half"
    assert os.listdir(path.parent) == ["a.nii.gz"]


def test_an_error_leaves_the_old_file(tmp_path):
    write_text("old", tmp_path / "a.txt")

    def fail_half_way():
        with partial_file(tmp_path / "a.txt") as temporary:
            temporary.write_text("new")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_half_way()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_json_has_no_numbers_that_json_lacks(tmp_path):
    write_json({"a": [1.5, float("nan")], "b": {"c": float("-inf")}, 3: (True, None)}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.5, None], "b": {"c": None}, "3": [True, None]}
