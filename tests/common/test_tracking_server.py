"""Tracking with servers that are there, die, never were, or do not answer: the training always ends."""

import logging
import socket
import time

import pytest
from ignite.engine import Engine, Events

from custom_apps.common import tracking
from custom_apps.common.tracking import PARENT_TAG, TrackedRun
from tests.common.mlflow_server import free_port, mlflow_server, stop

pytest.importorskip("mlflow", reason="tracking is an optional extra")

EPOCHS = 3


@pytest.fixture(autouse=True)
def forgotten_failures(monkeypatch):
    monkeypatch.setattr(tracking, "_silent_until", {})
    for name in tracking.PATIENCE:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('tracking') / 'store.db'}"


def train(uri, events=None, experiment_name="test", **options):
    """A training of three epochs under a tracker; gives the handler, and the number of epochs that were trained."""
    engine = Engine(lambda *_: [{"loss": 0.5}])
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: engine.state.metrics.update(dice=engine.state.epoch / 10))
    for epoch, event in (events or {}).items():
        engine.add_event_handler(Events.EPOCH_STARTED(once=epoch), event)
    options = {"iteration_log": False, "close_on_complete": True, "run_name": "run"} | options
    run = TrackedRun(tracking_uri=uri, experiment_name=experiment_name, **options)
    run.attach(engine)
    engine.run([0], max_epochs=EPOCHS)
    return run, engine.state.epoch


@pytest.mark.slow
def test_a_server_keeps_the_run_and_its_death_does_not_end_the_next_one(tmp_path, caplog):
    (tmp_path / "curves.png").write_bytes(b"png")
    with mlflow_server(tmp_path) as (address, process):
        options = {"artifacts": tmp_path / "curves.png", "experiment_param": {"lr": 0.1}}
        run, _ = train(address, run_name="fold_0", parent="folds", **options)
        client = run.client
        experiment = client.get_experiment_by_name("test").experiment_id
        found = {each.info.run_name: each for each in client.search_runs(experiment)}
        assert set(found) == {"fold_0", "folds"}
        assert {each.info.status for each in found.values()} == {"FINISHED"}
        child = found["fold_0"]
        assert child.data.tags[PARENT_TAG] == found["folds"].info.run_id
        assert child.data.params == {"lr": "0.1", "max_epochs": "3", "epoch_length": "1"}
        assert "GiB" in child.data.tags["machine"]
        assert "torch " in child.data.tags["versions"]
        assert "mlflow.user" not in child.data.tags
        history = client.get_metric_history(child.info.run_id, "dice")
        assert [(point.step, point.value) for point in history] == [(1, 0.1), (2, 0.2), (3, 0.3)]
        assert [item.path for item in client.list_artifacts(child.info.run_id)] == ["curves.png"]

        started = time.monotonic()
        _, epochs = train(address, {2: lambda: stop(process)}, run_name="fold_1")
        assert epochs == EPOCHS
        assert time.monotonic() - started < 60
    assert "the run goes on without" in caplog.text


def test_no_server_at_all(caplog):
    address = f"http://127.0.0.1:{free_port()}"
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        _, epochs = train(address)
    assert epochs == EPOCHS
    assert time.monotonic() - started < 20
    assert f"tracking in {address} fails" in caplog.text


def test_a_server_that_accepts_and_says_nothing(monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        _, epochs = train(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert epochs == EPOCHS
    assert time.monotonic() - started < 10
    assert "the run goes on without" in caplog.text


def test_an_address_with_a_password_is_not_printed(caplog):
    train(f"http://anna:secret@127.0.0.1:{free_port()}")
    assert "***@127.0.0.1" in caplog.text
    assert "secret" not in caplog.text


def test_a_store_that_comes_back_gets_the_rest_of_the_run(store, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "PAUSE_SECONDS", 0.0)

    def fail(*_, **__):
        raise OSError("the store is away")

    original = TrackedRun._set_experiment
    monkeypatch.setattr(TrackedRun, "_set_experiment", fail)
    back = {3: lambda: monkeypatch.setattr(TrackedRun, "_set_experiment", original)}
    (tmp_path / "curves.png").write_bytes(b"png")
    run, epochs = train(store, back, "back", artifacts=tmp_path / "curves.png")
    assert epochs == EPOCHS
    (found,) = run.client.search_runs(run.experiment.experiment_id)
    assert found.info.status == "FINISHED"
    assert [point.step for point in run.client.get_metric_history(found.info.run_id, "dice")] == [3]
    assert [item.path for item in run.client.list_artifacts(found.info.run_id)] == ["curves.png"]


def test_a_failed_part_fails_the_whole_and_a_later_one_mends_it(store):
    def fail():
        raise ZeroDivisionError("the step failed")

    with pytest.raises(ZeroDivisionError):
        train(store, {2: fail}, run_name="fold_0", parent="folds")
    run, _ = train(store, run_name="unrelated")

    def status():
        return {each.info.run_name: each.info.status for each in run.client.search_runs(run.experiment.experiment_id)}

    assert status() == {"fold_0": "FAILED", "folds": "FAILED", "unrelated": "FINISHED"}
    train(store, run_name="folds", parent="folds")
    assert status() == {"fold_0": "FAILED", "folds": "FINISHED", "unrelated": "FINISHED"}
