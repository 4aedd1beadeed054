from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from custom_apps.common.restart_store import agent_store, common_name

PROCESSES = 3


@pytest.fixture
def store():
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def names(store, order):
    """The names that processes agree on, which come one after another in this order."""
    clients = [dist.TCPStore("127.0.0.1", store.port, is_master=False) for _ in order]
    with ThreadPoolExecutor(len(order)) as pool:
        waiting = []
        for rank, client in zip(order, clients, strict=True):
            waiting.append(pool.submit(common_name, client, rank, PROCESSES, 20))
        return {future.result() for future in waiting}


def test_every_start_has_a_name_of_its_own_whoever_comes_first(store):
    found = [names(store, order) for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2])]
    assert [len(each) for each in found] == [1, 1, 1]
    assert len(set.union(*found)) == 3


def test_greetings_of_the_dead_are_not_taken_for_those_of_the_living(store):
    names(store, [0, 1, 2])
    with pytest.raises(RuntimeError, match="process 0 of 3 did not come"):
        common_name(store, 1, PROCESSES, 0.3)
    with pytest.raises(RuntimeError, match="process 1 of 3 did not come"):
        common_name(store, 0, PROCESSES, 0.3)
    assert len(names(store, [1, 2, 0])) == 1


def test_other_starts_keep_pytorchs_own_store(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    assert agent_store(None) is None
