import os
import pickle

import pytest
import torch
from torch import nn

from custom_apps.common.checkpoint_files import load_weights, read_checkpoint, save_whole, set_aside
from custom_apps.common.errors import DataError


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "models" / "last.pt"
    save_whole({"epoch": 1}, path)

    def half(content, file):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        save_whole({"epoch": 2}, path)
    assert read_checkpoint(path) == {"epoch": 1}
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_unreadable_files_are_named(tmp_path, content):
    path = tmp_path / "last.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"last\.pt: (no such file|cannot be read)"):
        read_checkpoint(path)


def test_a_truncated_file_and_other_content(tmp_path):
    path = tmp_path / "last.pt"
    save_whole({"weights": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="cannot be read"):
        read_checkpoint(path)
    save_whole([1, 2], path)
    with pytest.raises(DataError, match="holds a list"):
        read_checkpoint(path)


def test_reading_runs_no_code(tmp_path):
    path = tmp_path / "last.pt"
    torch.save({"trap": Trap(tmp_path / "sprung")}, path)
    with pytest.raises(DataError, match="cannot be read"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps({"trap": Trap(tmp_path / "sprung")}))
    with pytest.raises(DataError, match="cannot be read"):
        read_checkpoint(path)
    assert not (tmp_path / "sprung").exists()


def test_weights_of_another_network_are_described_and_change_nothing():
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 2))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    other = nn.Sequential(nn.Linear(3, 5), nn.Linear(4, 2, bias=False)).state_dict() | {"head.weight": torch.zeros(1)}
    with pytest.raises(DataError) as error:
        load_weights(network, other, "models/model.pt")
    text = str(error.value)
    assert text.startswith("models/model.pt: belongs to another network")
    assert "3 missing (1.bias, 2.weight, 2.bias)" in text
    assert "1 unexpected (head.weight)" in text
    assert "0.weight (5, 3) instead of (4, 3)" in text
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_long_lists_of_keys_are_cut():
    with pytest.raises(DataError, match=r"6 missing \(0.weight, 0.bias, 1.weight, …\)"):
        load_weights(nn.Sequential(*(nn.Linear(1, 1) for _ in range(3))), {}, "model.pt")


def test_files_are_set_aside_under_free_names(tmp_path, caplog):
    path = tmp_path / "model.pt"
    assert set_aside(path) is None
    for number in (1, 2):
        path.write_text(str(number))
        assert set_aside(path) == tmp_path / f"model.{number}.pt"
    assert (tmp_path / "model.1.pt").read_text() == "1"
    assert not path.exists()
    assert "model.2.pt" in caplog.text
