"""The compiled operators in processes that share a machine: loader workers and ranks of a training job."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from custom_networks.ops import _native, _native_library, _native_selective_scan

ROOT = Path(__file__).parents[2]

usable, reason = _native.is_available()
pytestmark = pytest.mark.skipif(not usable, reason=reason)


def scanned(seed: int) -> torch.Tensor:
    """Output of a scan that is worth several threads."""
    generator = torch.Generator().manual_seed(seed)
    u, delta = (torch.randn(1, 300, 80, generator=generator) for _ in range(2))
    B, C = (torch.randn(1, 300, 1, 16, generator=generator) for _ in range(2))
    A = -torch.ones(80, 16)
    return _native_selective_scan.forward(u, delta, A, B, C, *[None] * 4, True, False, False)[0]


class Scans(Dataset):
    """Items that are computed by the scan, together with the number of threads at hand."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return scanned(index), _native_library.cut(1, 5, 1 << 30)[0]


def test_a_forked_loader_worker_after_work_on_two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = [scanned(index) for index in range(4)]
        loader = DataLoader(Scans(), batch_size=None, num_workers=2, timeout=60, multiprocessing_context="fork")
        items = list(loader)
    finally:
        torch.set_num_threads(before)
    assert [threads for _, threads in items] == [1] * 4
    for (found, _), y in zip(items, expected, strict=True):
        torch.testing.assert_close(found, y)


_RANK = """
import sys
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
import custom_networks.ops as ops

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.A = nn.Parameter(-torch.rand(20, 4))
        self.inputs = nn.Linear(20, 28)
        self.taps = nn.Parameter(torch.randn(20, 4))

    def forward(self, x):
        u, B, C = self.inputs(x).transpose(1, 2).split([20, 4, 4], 1)
        u = ops.causal_conv1d(u, self.taps, activation="silu")
        return ops.selective_scan(u, u, self.A, B, C, delta_softplus=True)

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
ops.set_backend("native")
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
layer = Layer()
data = torch.randn(2, 70, 20, generator=torch.Generator().manual_seed(1))
parallel = DistributedDataParallel(layer)
parallel(data[rank : rank + 1]).square().mean().backward()
whole = Layer()
whole(data).square().mean().backward()
for both, alone in zip(layer.parameters(), whole.parameters()):
    torch.testing.assert_close(both.grad, alone.grad, rtol=1e-4, atol=1e-6)
torch.distributed.barrier()
torch.distributed.destroy_process_group()
print("agreed")
"""


@pytest.mark.slow
def test_two_ranks_get_the_gradients_of_the_whole_batch(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", _RANK, str(rank), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(2)
    ]
    for process in ranks:
        output, errors = process.communicate(timeout=180)
        assert output.strip() == "agreed", errors
