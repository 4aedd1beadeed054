import math
import os

import pytest
from ignite.engine import Engine, Events
from monai.handlers import StatsHandler

from custom_apps.common import tracking
from custom_apps.common.tracking import TrackedRun

pytest.importorskip("mlflow", reason="tracking is an optional extra")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One SQLite store for all tests: making its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracking') / 'mlruns.db'}"


def engine_with(store, name, fail=False, **options):
    def step(engine, batch):
        if fail:
            raise ZeroDivisionError("the step failed")
        return [{"loss": 0.5}]

    engine = Engine(step)
    engine.state.metrics = {"dice": 0.25, "absent": math.nan}
    # As in a bundle: MONAI appends the tracking handler to the others, one of which raises errors again.
    StatsHandler(iteration_log=False, epoch_log=False).attach(engine)
    options = {"iteration_log": False, "close_on_complete": True} | options
    run = TrackedRun(tracking_uri=store, experiment_name="test", run_name=name, **options)
    run.attach(engine)
    return engine, run


def runs(run, name):
    experiment = run.client.get_experiment_by_name("test").experiment_id
    return [found for found in run.client.search_runs(experiment) if found.info.run_name == str(name)]


def test_a_run_ends_finished_with_figures_and_configuration(store, tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "curves.png").write_bytes(b"png")
    for number, name in enumerate(("config_1.json", "config_2.json")):
        (tmp_path / name).write_text("{}")
        os.utime(tmp_path / name, (number, number))
    options = {
        "figures_dir": tmp_path / "figures",
        "config_dir": tmp_path,
        "artifacts": str(tmp_path / "missing.txt"),
    }
    # A number as a name would otherwise be another run for each handler.
    engine, run = engine_with(store, 20261121, **options)
    engine.run([0], max_epochs=2)
    (found,) = runs(run, 20261121)
    assert found.info.status == "FINISHED"
    assert found.data.metrics["dice"] == 0.25
    logged = {file.path for file in run.client.list_artifacts(found.info.run_id)}
    assert logged == {"curves.png", "config_2.json"}


def test_an_error_ends_the_run_as_failed_and_comes_through(store):
    engine, run = engine_with(store, "failing", fail=True)
    with pytest.raises(ZeroDivisionError, match="the step failed"):
        engine.run([0])
    assert [found.info.status for found in runs(run, "failing")] == ["FAILED"]
    again, run = engine_with(store, "failing")
    again.run([0])
    assert [found.info.status for found in runs(run, "failing")] == ["FINISHED"]


def test_a_resumed_run_is_running_again(store):
    engine, _ = engine_with(store, "resumed", fail=True)
    with pytest.raises(ZeroDivisionError):
        engine.run([0])
    again, run = engine_with(store, "resumed", close_on_complete=False)
    again.run([0])
    assert [found.info.status for found in runs(run, "resumed")] == ["RUNNING"]


def test_an_unnamed_run_never_joins_an_open_one_of_another_process(store, monkeypatch):
    left_open, run = engine_with(store, None, close_on_complete=False)
    left_open.run([0])
    monkeypatch.setattr(tracking, "_DEFAULT_RUN_NAME", "run-of-another-process")
    other, _ = engine_with(store, None)
    other.run([0])
    assert [found.info.status for found in runs(run, "run-of-another-process")] == ["FINISHED"]


def test_trainer_and_validator_share_the_unnamed_run(store, monkeypatch):
    monkeypatch.setattr(tracking, "_DEFAULT_RUN_NAME", "shared")
    validator, _ = engine_with(store, None, close_on_complete=False)
    trainer, run = engine_with(store, None)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: validator.run([0]))
    trainer.run([0])
    assert len(runs(run, "shared")) == 1


def test_without_mlflow_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"pip install 'mamba-bundles\[track\]'"):
        TrackedRun()
