import pytest
from ignite.engine import Engine, Events

from custom_apps.common.epoch_log import EpochLog, read_epoch_log
from custom_apps.common.errors import DataError


class Optimizer:
    def __init__(self):
        self.param_groups = [{"lr": 0.5}]


def trainer(path, validate_at=(), start=0):
    """Two iterations an epoch with losses e and e + 1, the rate halved at each end, validation in some epochs."""
    engine = Engine(lambda engine, batch: [{"loss": engine.state.epoch + batch}])
    engine.optimizer = Optimizer()
    engine.optimizer.param_groups[0]["lr"] = 0.5 / 2**start
    validator = Engine(lambda *_: None)

    @engine.on(Events.STARTED)
    def resume(engine):
        engine.state.epoch, engine.state.iteration = start, start * 2

    @engine.on(Events.EPOCH_COMPLETED)
    def finish(engine):
        engine.optimizer.param_groups[0]["lr"] /= 2
        if engine.state.epoch in validate_at:
            validator.state.epoch = engine.state.epoch
            metrics = {"dice": engine.state.epoch / 10, "val_loss": 1.0, "dice_liver": float("nan")}
            validator.state.metrics = metrics

    EpochLog(path, validator).attach(engine)
    return engine


def test_one_row_for_each_epoch(tmp_path):
    path = tmp_path / "eval" / "metrics.csv"
    trainer(path, validate_at=(2,)).run([0, 1], max_epochs=3)
    rows = read_epoch_log(path)
    assert list(rows[0]) == ["epoch", "train_loss", "lr", "seconds", "val_dice", "val_loss", "val_dice_liver"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["train_loss"]) for row in rows] == [1.5, 2.5, 3.5]
    assert [float(row["lr"]) for row in rows] == [0.5, 0.25, 0.125]
    assert [row["val_dice"] for row in rows] == ["", "0.2", ""]
    assert rows[1]["val_dice_liver"] == ""
    assert all(float(row["seconds"]) >= 0 for row in rows)
    assert [file.name for file in path.parent.iterdir()] == ["metrics.csv"]


def test_a_resumed_run_repeats_no_epoch(tmp_path):
    path = tmp_path / "metrics.csv"
    trainer(path).run([0, 1], max_epochs=3)
    trainer(path, validate_at=(3, 4), start=2).run([0, 1], max_epochs=4)
    rows = read_epoch_log(path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["val_dice"] for row in rows] == ["", "", "0.3", "0.4"]


def test_a_new_run_keeps_the_old_log(tmp_path):
    path = tmp_path / "metrics.csv"
    trainer(path).run([0, 1], max_epochs=3)
    trainer(path).run([0, 1], max_epochs=1)
    assert len(read_epoch_log(path)) == 1
    assert len(read_epoch_log(tmp_path / "metrics.1.csv")) == 3


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "epoch,lr\nfirst,1\n"])
def test_a_file_that_is_no_log(tmp_path, content):
    path = tmp_path / "metrics.csv"
    path.write_text(content)
    if content:
        with pytest.raises(DataError, match=r"metrics\.csv"):
            read_epoch_log(path)
    else:
        assert read_epoch_log(path) == []
    with pytest.raises(DataError, match="missing"):
        read_epoch_log(tmp_path / "missing.csv")


def test_parts_of_the_loss_have_columns_and_iterations_without_a_part_do_not_count(tmp_path):
    outputs = [{"loss": 1.0, "labeled_loss": 1.0}, {"loss": 3.0, "other_loss": 3.0}, {"loss": 5.0, "labeled_loss": 5.0}]
    engine = Engine(lambda _, output: [output])
    EpochLog(tmp_path / "metrics.csv", further=["labeled_loss", "other_loss", "absent_loss"]).attach(engine)
    engine.run(outputs, max_epochs=1)
    row = read_epoch_log(tmp_path / "metrics.csv")[0]
    assert [row[f"train_{key}"] for key in ("loss", "labeled_loss", "other_loss", "absent_loss")] == ["3", "3", "3", ""]
