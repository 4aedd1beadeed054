"""Processes of a distributed run: rank, sums over ranks, safe start and safe end.

Every function also works in an ordinary single process, where it does the obvious thing, so that callers need no
``if distributed``.
"""

from __future__ import annotations

import datetime
import gc
import os
import time

import torch
import torch.distributed as dist

from custom_apps.common.restart_store import agent_store


def is_distributed() -> bool:
    """Whether a process group exists."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Number of this process, 0 without a process group."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1


def is_main_process() -> bool:
    """Whether this process writes files and speaks for the others."""
    return rank() == 0


def wait_for_all() -> None:
    """Blocks until every process has come here."""
    if is_distributed():
        dist.barrier()


def communication_device() -> torch.device:
    """The device whose tensors the process group can exchange: the current GPU with NCCL, otherwise the CPU."""
    on_gpu = is_distributed() and dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """Element-wise sum of a tensor over all processes, without gradient.

    Args:
        values: tensor of the same shape and dtype on every process, on any device.

    Returns:
        the sum, on the device of ``values``; ``values`` itself is left alone.
    """
    if world_size() == 1:
        return values
    total = values.detach().to(communication_device(), copy=True)
    dist.all_reduce(total)
    return total.to(values.device)


def sum_with_gradient(values: torch.Tensor) -> torch.Tensor:
    """Element-wise sum over all processes through which gradients flow to every process.

    The backward pass sums the incoming gradients over the processes too. Together with the average that
    DistributedDataParallel takes, a loss computed from these sums has the gradient of a single process that sees the
    whole batch.
    """
    if world_size() == 1:
        return values
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(values)


def all_agree(flag: bool) -> bool:
    """Whether ``flag`` is true on every process."""
    if world_size() == 1:
        return flag
    votes = torch.tensor(int(flag), device=communication_device())
    dist.all_reduce(votes, op=dist.ReduceOp.MIN)
    return bool(votes.item())


def without_ddp(module: torch.nn.Module) -> torch.nn.Module:
    """The network inside a DistributedDataParallel wrapper, or the module itself."""
    return module.module if isinstance(module, torch.nn.parallel.DistributedDataParallel) else module


def start(backend: str | None = None, timeout_minutes: float = 10.0) -> None:
    """Joins the processes that ``torchrun`` started; does nothing when a group exists or ``torchrun`` is not in use.

    To be called by every process at the beginning of a run (``initialize`` of a bundle).

    Args:
        backend: ``nccl``, ``gloo`` or None for NCCL where there is a GPU and gloo elsewhere.
        timeout_minutes: how long a process waits for the others before the run fails.

    Pytorch-ignite opens its own group lazily, which blocks for ever when only some processes come to that point;
    therefore it is synchronised here, on all of them.
    """
    if "RANK" not in os.environ and not is_distributed():
        return
    backend = backend or ("nccl" if torch.cuda.is_available() else "gloo")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not is_distributed():
        timeout = datetime.timedelta(minutes=timeout_minutes)
        own = {}
        if (store := agent_store(timeout)) is not None:
            own = {"store": store, "rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}
        dist.init_process_group(backend, timeout=timeout, **own)
    import ignite.distributed

    ignite.distributed.sync()


def stop(pause_seconds: float = 1.0) -> None:
    """Leaves the process group so that the process can end without an abort (``finalize`` of a bundle).

    Barrier, garbage collection, destruction and a short pause are all needed: with gloo a process that still holds
    work objects of the group, or ends at once, is sometimes aborted after its results are complete.
    """
    if not is_distributed():
        return
    import ignite.distributed

    dist.barrier()
    gc.collect()
    # Ignite remembers the group that it was synchronised with, and would ask it again in a later run of this process.
    ignite.distributed.finalize()
    if is_distributed():
        dist.destroy_process_group()
    time.sleep(pause_seconds)
