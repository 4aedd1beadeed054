"""Files that claim to be checkpoints and are not, or that carry code."""

import os
import pickle
import zipfile

import pytest
import torch

from custom_networks.published import CheckpointError, load, read_checkpoint


class Payload:
    """Runs a command when unpickled by an unsafe reader."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path, legacy):
    witness = tmp_path / "ran"
    content = {"network_weights": {"w": torch.zeros(1)}, "extra": Payload(witness)}
    torch.save(content, tmp_path / "bad.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"bad\.pth: refused"):
        load("umamba", tmp_path / "bad.pth")
    assert not witness.exists()


def test_plain_pickle_is_refused(tmp_path):
    witness = tmp_path / "ran"
    (tmp_path / "bad.pt").write_bytes(pickle.dumps(Payload(witness)))
    with pytest.raises(CheckpointError, match=r"bad\.pt"):
        read_checkpoint(tmp_path / "bad.pt")
    assert not witness.exists()


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
def test_truncated_file(tmp_path, name):
    path = tmp_path / name
    torch.save({"w": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(path)


def test_text_zip_missing_and_non_mapping(tmp_path):
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("a.txt", "b")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("text.pt", "zip.pt", "list.pt", "absent.pt"):
        with pytest.raises(CheckpointError, match=name):
            read_checkpoint(tmp_path / name)
