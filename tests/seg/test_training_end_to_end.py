"""A training assembled from a configuration as bundles assemble it, on the phantom in memory."""

import pytest
import torch
import yaml
from ignite.engine import Events
from monai.bundle import ConfigParser

from custom_apps.common.checkpoint_files import read_checkpoint
from custom_apps.common.epoch_log import read_epoch_log

CONFIG = """
imports:
  - $import torch
  - $import monai
epochs: 4
amp: false
amp_dtype: bfloat16
device: $torch.device('cpu')
prepared:
  _target_: tests.seg.training_phantom.MemoryPrepared
  patch_size: [8, 8, 8]
  batch_size: 2
network:
  _target_: UNet
  spatial_dims: 3
  in_channels: 1
  out_channels: 3
  channels: [8, 16]
  strides: [2]
loss: {_target_: custom_apps.seg.losses.loss_for, prepared: '@prepared'}
optimizer:
  _target_: torch.optim.SGD
  params: $@network.parameters()
  lr: 0.05
  momentum: 0.9
  nesterov: true
  weight_decay: 3.0e-5
lr_scheduler: {_target_: custom_apps.seg.schedules.PolyLR, optimizer: '@optimizer', epochs: '@epochs'}
train:
  dataset:
    _target_: custom_apps.seg.patch_sampling.PatchDataset
    prepared: '@prepared'
    cases: $@prepared.cases
    iterations: 12
    seed: 1
  dataloader: {_target_: custom_apps.seg.patch_loader.PatchLoader, dataset: '@train::dataset'}
  inferer: {_target_: SimpleInferer}
  handlers:
    - {_target_: LrScheduleHandler, lr_scheduler: '@lr_scheduler', print_lr: false}
    - {_target_: ValidationHandler, validator: '@validate::evaluator', epoch_level: true, interval: 1}
    - {_target_: custom_apps.common.epoch_log.EpochLog, path: $@folder + '/metrics.csv',
       validator: '@validate::evaluator'}
    - {_target_: custom_apps.common.progress.TerminalProgressBar, desc: train, show_loss: true}
    - _target_: custom_apps.common.checkpoints.TrainingState
      path: $@folder + '/last.pt'
      objects:
        network: '@network'
        optimizer: '@optimizer'
        lr_scheduler: '@lr_scheduler'
        pseudo_dice: '@validate::key_metric::pseudo_dice_ema'
      validator: '@validate::evaluator'
  trainer:
    _target_: custom_apps.seg.training_engine.SegmentationTrainer
    device: '@device'
    max_epochs: '@epochs'
    train_data_loader: '@train::dataloader'
    network: '@network'
    optimizer: '@optimizer'
    loss_function: '@loss'
    inferer: '@train::inferer'
    train_handlers: '@train::handlers'
    amp: '@amp'
    amp_dtype: '@amp_dtype'
validate:
  dataset:
    _target_: custom_apps.seg.patch_sampling.PatchDataset
    prepared: '@prepared'
    cases: $@prepared.cases
    iterations: 6
    seed: 2
    training: false
  dataloader: {_target_: custom_apps.seg.patch_loader.PatchLoader, dataset: '@validate::dataset'}
  inferer: {_target_: SimpleInferer}
  key_metric:
    pseudo_dice_ema: {_target_: custom_apps.seg.pseudo_dice.pseudo_dice_for, prepared: '@prepared'}
  additional_metrics:
    val_loss:
      _target_: ignite.metrics.Average
      output_transform: "$monai.handlers.from_engine(['loss'], first=True)"
  handlers:
    - {_target_: custom_apps.common.checkpoints.BestModelSaver, path: $@folder + '/model.pt', network: '@network'}
  evaluator:
    _target_: custom_apps.seg.training_engine.SegmentationEvaluator
    device: '@device'
    val_data_loader: '@validate::dataloader'
    network: '@network'
    inferer: '@validate::inferer'
    loss_function: '@loss'
    key_val_metric: '@validate::key_metric'
    additional_metrics: '@validate::additional_metrics'
    val_handlers: '@validate::handlers'
    amp: '@amp'
    amp_dtype: '@amp_dtype'
"""


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other on a busy machine take longer than these small tensors do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def training(folder, **changes):
    torch.manual_seed(0)
    parser = ConfigParser(yaml.safe_load(CONFIG))
    for name, value in ({"folder": str(folder)} | changes).items():
        parser[name] = value
    return parser, parser.get_parsed_content("train::trainer")


def rows_without_time(folder):
    rows = read_epoch_log(folder / "metrics.csv")
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_it_learns_and_an_interrupted_run_repeats_an_uninterrupted_one(tmp_path):
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    training(whole)[1].run()
    # Killed in the third epoch: the process ends, and nothing of it is left but the files.
    _, trainer = training(interrupted)

    @trainer.on(Events.ITERATION_STARTED)
    def kill(engine):
        if engine.state.iteration == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    training(interrupted)[1].run()
    rows = rows_without_time(whole)
    assert rows_without_time(interrupted) == rows
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"]) - 0.05
    assert float(rows[-1]["val_pseudo_dice"]) > float(rows[0]["val_pseudo_dice"]) + 0.1
    assert {"val_loss", "val_pseudo_dice_ball", "val_pseudo_dice_cube", "val_pseudo_dice_ema"} <= set(rows[0])
    for name in ("last.pt", "model.pt"):
        states = [read_checkpoint(folder / name) for folder in (whole, interrupted)]
        weights = [state["objects"]["network"] if name == "last.pt" else state for state in states]
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_bfloat16_on_the_cpu(tmp_path):
    _, trainer = training(tmp_path, amp=True, epochs=2)
    trainer.run()
    assert trainer.autocast_dtype is torch.bfloat16
    rows = rows_without_time(tmp_path)
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


def test_the_metric_in_the_checkpoint_is_the_one_of_the_evaluator(tmp_path):
    parser, trainer = training(tmp_path, epochs=1)
    trainer.run()
    metric = parser.get_parsed_content("validate::key_metric")["pseudo_dice_ema"]
    stored = read_checkpoint(tmp_path / "last.pt")["objects"]["pseudo_dice"]
    assert stored == {"moving_average": metric.moving_average}
    assert metric.moving_average > 0
