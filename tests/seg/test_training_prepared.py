"""Patches of data sets as they are prepared on disk."""

import pytest
import torch

from custom_apps.seg.losses import loss_for
from custom_apps.seg.patch_loader import PatchLoader
from custom_apps.seg.patch_sampling import PatchDataset
from custom_apps.seg.phantom_cells import write_cell_phantom
from custom_apps.seg.phantom_ct import write_ct_phantom
from custom_apps.seg.prepare import prepare_dataset
from custom_apps.seg.pseudo_dice import pseudo_dice_for

CT = (write_ct_phantom, (16, 32, 36), "3d_fullres", [8, 16, 24], 1)
CELLS = (write_cell_phantom, (48, 64), "2d", [24, 32], 3)


@pytest.fixture(scope="module", params=[CT, CELLS], ids=["ct", "cells"])
def prepared(request, tmp_path_factory):
    write, shape, configuration, patch_size, channels = request.param
    folder = tmp_path_factory.mktemp("phantom")
    dataset = write(folder, cases=5, test_cases=1, seed=1, shape=shape)
    overrides = {"patch_size": patch_size, "batch_size": 3}
    return prepare_dataset(dataset, folder / "prepared", configuration, overrides=overrides, num_processes=1), channels


def test_batches_from_files_equal_with_and_without_workers(prepared):
    data, channels = prepared
    train, _ = data.fold(0)
    dataset = PatchDataset(data, train, iterations=3, seed=5)
    size = tuple(data.configuration.patch_size)
    alone = list(PatchLoader(dataset))
    for batch, other in zip(alone, PatchLoader(dataset, num_workers=1), strict=True):
        assert batch["image"].shape == (3, channels, *size)
        assert batch["label"].shape == (3, 1, *size)
        assert torch.equal(batch["image"], other["image"])
        assert torch.equal(batch["label"], other["label"])
        assert set(batch["case"]) <= set(train)
    # The last patch of each batch is centred on foreground; the plain chain keeps it in view.
    plain = PatchDataset(data, train, iterations=6, seed=5, training=False)
    assert all(batch["label"][-1].any() for batch in PatchLoader(plain))


def test_loss_and_metric_fit_the_labels(prepared):
    data, _ = prepared
    batch = next(iter(PatchLoader(PatchDataset(data, data.cases, iterations=1, training=False))))
    heads = data.labels.num_segmentation_heads
    one_hot = torch.nn.functional.one_hot(batch["label"][:, 0].long(), heads).movedim(-1, 1)
    metric = pseudo_dice_for(data)
    metric.update((one_hot * 50.0, batch["label"]))
    assert metric.compute() == 1
    assert metric.names == [name for name in data.labels.names if name != "background"]
    perfect, worst = (float(loss_for(data)(logits, batch["label"])) for logits in (one_hot * 50.0, one_hot * -50.0))
    assert perfect < -0.3
    assert worst > 10
