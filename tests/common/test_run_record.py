import json
import subprocess

import pytest
import torch
from ignite.engine import Engine, Events

from custom_apps.common.run_record import RunRecord, git_commit, machine_line, peak_memory_mib, versions


def read(path):
    return json.loads(path.read_text())


def test_a_record_tells_what_ran_where_and_how_long(tmp_path):
    path = tmp_path / "eval" / "run.json"
    with RunRecord(path, {"lr": 0.01, "device": torch.device("cpu"), "shape": (1, 2)}):
        assert read(path)["outcome"] == "running"
    content = read(path)
    assert content["outcome"] == "completed"
    assert content["config"] == {"lr": 0.01, "device": "cpu", "shape": [1, 2]}
    assert content["versions"]["torch"] == torch.__version__
    assert content["seconds"] >= 0
    assert content["started"] <= content["ended"]
    assert content["peak_memory_mib"]["host"] > 50
    assert "cores" in content["machine"]


def test_a_failure_is_recorded_and_raised(tmp_path):
    with pytest.raises(RuntimeError, match="boom"), RunRecord(tmp_path / "run.json"):
        raise RuntimeError("boom")
    assert read(tmp_path / "run.json")["outcome"] == "failed: RuntimeError: boom"


def test_as_a_handler_it_records_the_run_of_an_engine(tmp_path):
    engine = Engine(lambda *_: None)
    RunRecord(tmp_path / "run.json").attach(engine)
    engine.run([0], max_epochs=2)
    assert read(tmp_path / "run.json")["outcome"] == "completed"


@pytest.mark.parametrize("position", ["first", "last", "alone"])
def test_a_failing_engine_fails_and_every_handler_hears_of_it(tmp_path, position):
    def fail(*_):
        raise FloatingPointError("loss is nan")

    def other(_engine, error):
        heard.append(error)
        raise error

    heard = []
    engine = Engine(fail)
    record = RunRecord(tmp_path / "run.json")
    if position == "first":
        record.attach(engine)
    if position != "alone":
        engine.add_event_handler(
            Events.EXCEPTION_RAISED, other if position == "first" else lambda _e, x: heard.append(x)
        )
    if position != "first":
        record.attach(engine)
    with pytest.raises(FloatingPointError, match="loss is nan"):
        engine.run([0])
    assert bool(heard) == (position != "alone")
    assert read(tmp_path / "run.json")["outcome"] == "failed: FloatingPointError: loss is nan"


def test_the_commit_is_that_of_the_checkout(tmp_path):
    assert git_commit(tmp_path) is None
    run = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run([*run, "init", "-q"], check=True)
    (tmp_path / "a").write_text("1")
    subprocess.run([*run, "add", "a"], check=True)
    subprocess.run([*run, "commit", "-q", "-m", "a"], check=True)
    head = subprocess.run([*run, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert git_commit(tmp_path) == head
    (tmp_path / "a").write_text("2")
    assert git_commit(tmp_path) == f"{head}-dirty"


def test_facts_of_the_machine():
    assert versions()["python"].count(".") == 2
    assert "GiB" in machine_line()
    assert peak_memory_mib()["host"] > 0
