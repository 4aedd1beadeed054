"""Life and death of distributed jobs, by the example of the echo bundle: a killed process, a restart, two machines."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from custom_apps.echo.phantom import write_echonet_phantom
from tests.bundles.bundle_cli import bundle_command, start
from tests.bundles.test_echo_ef_mamba3d import SMALL, config, log_rows, places
from tests.common.mlflow_server import free_port

# Every process imports PyTorch and MONAI.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return write_echonet_phantom(tmp_path_factory.mktemp("data"), cases=10, test_cases=2, frames=(20, 30), size=32)


def job(folder: Path, videos: Path, epochs: int, *options: str) -> subprocess.Popen:
    """``torchrun`` of a small training."""
    arguments = places(folder, videos) | SMALL | {"epochs": epochs}
    command = bundle_command(config("train", "multi_gpu"), **arguments)
    return start(["-m", "torch.distributed.run", *options, *command], GLOO_SOCKET_IFNAME="lo")


def wait_for(path: Path, process: subprocess.Popen, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not path.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.is_file(), process.communicate(timeout=10)[0][-6000:]


def processes(agent: subprocess.Popen) -> dict[int, int]:
    """Ranks of the processes of one ``torchrun`` and their ids."""
    found = {}
    for children in Path(f"/proc/{agent.pid}/task").glob("*/children"):
        for child in children.read_text().split():
            variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            rank = next((int(each[5:]) for each in variables if each.startswith(b"RANK=")), None)
            if rank is not None:
                found[rank] = int(child)
    return found


def test_a_killed_process_is_restarted_and_the_training_goes_on(videos, tmp_path):
    process = job(tmp_path, videos, 3, "--standalone", "--nproc_per_node=2", "--max-restarts=1")
    wait_for(tmp_path / "models" / "last.pt", process)
    os.kill(processes(process)[1], signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-6000:]
    assert re.search(r"resumed \S+last\.pt after epoch [12],", output)
    assert [row["epoch"] for row in log_rows(tmp_path)] == ["1", "2", "3"]
    assert (tmp_path / "models" / "model_final.pt").is_file()


def test_two_machines_train_together_and_a_death_on_one_ends_both_with_a_reason(videos, tmp_path):
    """Two agents with a process each meet at a rendezvous; that both run on one machine makes no difference to them."""
    meeting = ("--nnodes=2", "--nproc_per_node=1", "--rdzv_backend=c10d", "--rdzv_id=test")
    options = (*meeting, f"--rdzv_endpoint=127.0.0.1:{free_port()}", "--max-restarts=0")
    agents = [job(tmp_path, videos, 200, *options) for _ in range(2)]
    try:
        wait_for(tmp_path / "models" / "last.pt", agents[0])
        # Each process steps through its share of the one data set, and the main process alone writes.
        (second,) = [agent for agent in agents if 1 in processes(agent)]
        os.kill(processes(second)[1], signal.SIGKILL)
        outputs = {agent: agent.communicate(timeout=120)[0] for agent in agents}
    finally:
        for agent in agents:
            agent.kill()
    assert all(agent.returncode not in (0, -signal.SIGKILL) for agent in agents)
    assert "Signal 9 (SIGKILL)" in outputs.pop(second)
    (first,) = outputs.values()
    assert re.search("Connection (reset|closed) by peer|ChildFailedError", first), first[-6000:]
    assert log_rows(tmp_path)
