"""The part of torchrun's store that belongs to one start of the processes, so that no one meets the dead."""

from __future__ import annotations

import datetime
import os
import time
import uuid

import torch.distributed as dist

POLL_SECONDS = 0.05
PATIENCE_SECONDS = 1.0


def agent_store(timeout: datetime.timedelta) -> dist.Store | None:
    """A store for the process group of a ``torchrun`` that keeps its own store over restarts; None for other starts.

    PyTorch takes that store as it is (issue pytorch#135712), and processes that are started again read the addresses of
    the dead from it: ``Connection refused``. Here the processes of one start first agree on a name of their own
    (`common_name`) and use keys below it. ``TORCHELASTIC_RESTART_COUNT`` would not do: it differs between machines.

    Args:
        timeout: how long to wait for the others.

    Raises:
        RuntimeError: when not all processes come.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(address, port, world_size, is_master=False, timeout=timeout)
    return dist.PrefixStore(common_name(store, rank, world_size, timeout.total_seconds()), store)


def common_name(store: dist.Store, rank: int, world_size: int, timeout_seconds: float) -> str:
    """A name that the processes of one start share, and no others.

    Rank 0 invents the name and publishes it. The others greet under it with a word of their own invention, and take it
    when rank 0 returns that word, which a rank 0 of an earlier start cannot have done.

    Args:
        store: a store that may hold what earlier starts have left.
        rank: number of this process.
        world_size: number of processes.
        timeout_seconds: how long to wait for the others.

    Raises:
        RuntimeError: when not all processes come.
    """
    deadline = time.monotonic() + timeout_seconds
    word = uuid.uuid4().hex
    if rank == 0:
        store.set("start", word)
        for other in range(1, world_size):
            greeting = f"{word}/{other}"
            if not _appears(store, greeting, deadline):
                raise RuntimeError(f"process {other} of {world_size} did not come within {timeout_seconds:.0f} s")
            store.set(f"{greeting}/{store.get(greeting).decode()}", "")
        return word
    while time.monotonic() < deadline:
        if _appears(store, "start", deadline):
            name = store.get("start").decode()
            store.set(f"{name}/{rank}", word)
            if _appears(store, f"{name}/{rank}/{word}", min(deadline, time.monotonic() + PATIENCE_SECONDS)):
                return name
    raise RuntimeError(f"process 0 of {world_size} did not come within {timeout_seconds:.0f} s")


def _appears(store: dist.Store, key: str, deadline: float) -> bool:
    while not store.check([key]):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
