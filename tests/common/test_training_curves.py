import pytest
from ignite.engine import Engine
from PIL import Image

from custom_apps.common.errors import DataError
from custom_apps.common.training_curves import TrainingCurves, _families, _title, plot_training_curves

LOG = """epoch,train_loss,lr,seconds,val_pseudo_dice,val_pseudo_dice_liver,val_pseudo_dice_average,val_auc
1,0.5,0.01,3.1,0.1,0.1,0.1,0.6
2,0.4,0.009,3.0,,,,
3,0.1,0.008,3.2,0.3,,0.12,0.7
"""


def test_metrics_are_grouped_by_the_name_they_continue():
    names = ["val_dice_liver", "val_auc", "val_dice", "val_dice_average", "val_dicer"]
    assert _families(names) == {
        "val_auc": ["val_auc"],
        "val_dice": ["val_dice", "val_dice_liver", "val_dice_average"],
        "val_dicer": ["val_dicer"],
    }


def test_gaps_and_several_families_are_drawn(tmp_path):
    (tmp_path / "metrics.csv").write_text(LOG)
    plot_training_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.width > 1500, "three panels in a row"
        assert image.height > 800, "the fourth in a second one"


def test_losses_share_a_panel(tmp_path):
    log = "epoch,train_loss,val_mse_loss,val_mse_loss_online,val_mae,val_mae_online\n1,2,3,4,5,6\n2,1,2,3,4,5\n"
    (tmp_path / "metrics.csv").write_text(log)
    plot_training_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.height < 700, "two panels in one row"


def test_names_for_people():
    assert _title("val_mse_loss_online") == "Validation MSE loss, current weights"
    assert _title("val_pseudo_dice") == "Pseudo Dice"
    assert _title("val_r2") == "R²"
    assert _title("train_loss") == "Training loss"


@pytest.mark.parametrize("rows", ["1,0.5,0.01\n", "1,,\n2,0.4,\n"])
def test_short_logs_are_drawn(tmp_path, rows):
    (tmp_path / "metrics.csv").write_text("epoch,train_loss,lr\n" + rows)
    plot_training_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").is_file()


def test_unusable_logs_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.csv"):
        plot_training_curves(tmp_path / "nothing.csv", tmp_path / "curves.png")
    (tmp_path / "metrics.csv").write_text("epoch,train_loss\n")
    with pytest.raises(DataError, match="has no rows"):
        plot_training_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    (tmp_path / "metrics.csv").write_text("epoch,train_loss\n1,\n")
    with pytest.raises(DataError, match="has no numbers"):
        plot_training_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")


def test_the_handler_draws_now_and_then_and_at_the_end(tmp_path):
    log, figure = tmp_path / "metrics.csv", tmp_path / "figures" / "training_curves.png"
    engine = Engine(lambda *_: None)
    TrainingCurves(log, figure.parent, every=2).attach(engine)
    engine.run([0], max_epochs=1)
    assert not figure.exists(), "without a log there is nothing to draw"
    log.write_text(LOG)
    engine.run([0], max_epochs=3)
    assert figure.is_file()
