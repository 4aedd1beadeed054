import shutil
from collections import namedtuple

import pytest
import torch

from custom_apps.common.checkpoint_files import save_whole
from custom_apps.common.disk_space import bytes_of, free_bytes, readable, require_space
from custom_apps.common.errors import DataError

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def nearly_full(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40, 20 * 2**20))


def test_free_space_of_what_does_not_exist_yet(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)


def test_a_full_disk_is_said_before_anything_is_written(nearly_full, tmp_path):
    require_space(tmp_path, 2**20, "a picture")
    with pytest.raises(DataError, match=r"no room for a checkpoint: 8 MiB needed, 20 MiB free"):
        save_whole({"network": {"weight": torch.zeros(2**21)}, "epoch": 3}, tmp_path / "last.pt")
    assert not list(tmp_path.iterdir())


def test_an_earlier_checkpoint_survives(nearly_full, tmp_path):
    save_whole({"epoch": 1}, tmp_path / "last.pt")
    with pytest.raises(DataError):
        save_whole({"weight": torch.zeros(2**21)}, tmp_path / "last.pt")
    assert torch.load(tmp_path / "last.pt", weights_only=True) == {"epoch": 1}


def test_size_of_tensors_is_that_of_their_files(tmp_path):
    weight = torch.zeros(1000, 100)
    content = {"network": {"a": weight, "b": weight[:10]}, "optimizer": [{"state": (torch.zeros(7),)}], "epoch": 1}
    assert bytes_of(content) == 4 * (100_000 + 7)
    save_whole(content, tmp_path / "x.pt")
    assert 0 <= (tmp_path / "x.pt").stat().st_size - bytes_of(content) < 10_000
    assert readable(3 * 2**30) == "3.0 GiB"
