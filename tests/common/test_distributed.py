import ignite.distributed
import pytest
import torch

from custom_apps.common import distributed


def test_a_single_process_is_a_group_of_one():
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    assert not distributed.is_distributed()
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.is_main_process()
    assert distributed.sum_with_gradient(values) is values
    assert torch.equal(distributed.sum_over_ranks(values), values)
    assert distributed.all_agree(True)
    assert not distributed.all_agree(False)
    distributed.wait_for_all()
    distributed.stop()


def test_starting_without_torchrun_opens_no_group(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    distributed.start()
    assert not distributed.is_distributed()


@pytest.fixture
def group_of_one(monkeypatch, tmp_path):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    distributed.stop(pause_seconds=0)


def test_a_group_that_exists_is_kept_and_left(group_of_one):
    distributed.start("gloo")
    assert distributed.is_distributed()
    assert distributed.communication_device() == torch.device("cpu")
    wrapped = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
    assert distributed.without_ddp(wrapped) is wrapped.module
    assert distributed.without_ddp(wrapped.module) is wrapped.module
    del wrapped
    distributed.stop(pause_seconds=0)
    assert not distributed.is_distributed()
    assert ignite.distributed.get_world_size() == 1
