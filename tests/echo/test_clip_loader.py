import os
from collections import Counter

import pytest
import torch
from monai.engines import SupervisedTrainer
from torch.utils.data.distributed import DistributedSampler

from custom_apps.common.errors import DataError
from custom_apps.common.item_loader import ItemSampler
from custom_apps.echo.chains import EchoNetClips
from custom_apps.echo.clip_dataset import ClipDataset
from custom_apps.echo.clip_loader import clip_loader
from custom_apps.echo.echonet import echonet_records


@pytest.fixture
def dataset(echonet_phantom):
    return ClipDataset(
        echonet_records(echonet_phantom, "all"), EchoNetClips(length=4, size=24, padding=3), cache="memory", seed=5
    )


class Numbers(torch.utils.data.Dataset):
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count


def orders(count, epoch=0, world_size=1, **options):
    samplers = [
        ItemSampler(Numbers(count), shuffle=True, rank=rank, world_size=world_size, **options)
        for rank in range(world_size)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return [list(sampler) for sampler in samplers]


def indices(shares):
    return [index for _, index, _ in shares[0]]


def evaluation_orders(count, world_size):
    return [
        list(ItemSampler(Numbers(count), 2, shuffle=False, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]


def test_evaluation_sees_every_video_once_over_all_processes():
    for world_size in (1, 2, 3):
        shares = evaluation_orders(7, world_size)
        assert sorted(index for share in shares for _, index, _ in share) == list(range(7))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert {epoch for share in shares for epoch, _, _ in share} == {0}


def test_training_deals_out_one_order():
    shares = orders(11, epoch=3, batch_size=2, world_size=2)
    # Two full batches for each of two processes.
    assert [len(share) for share in shares] == [4, 4]
    together = [item for pair in zip(*shares, strict=True) for item in pair]
    single = orders(11, epoch=3, batch_size=4, world_size=1)[0]
    assert together == single
    assert len({index for _, index, _ in together}) == 8
    assert {epoch for epoch, _, _ in together} == {3}


def test_orders_derive_from_seed_and_epoch():
    one = orders(30, epoch=1, batch_size=1)
    assert one == orders(30, epoch=1, batch_size=1)
    assert indices(one) != indices(orders(30, epoch=2, batch_size=1))
    assert indices(one) != indices(orders(30, epoch=1, batch_size=1, seed=1))


def test_epochs_of_fixed_length_start_over():
    shares = orders(5, batch_size=2, world_size=2, iterations=4)
    assert [len(share) for share in shares] == [8, 8]
    items = [item for pair in zip(*shares, strict=True) for item in pair]
    assert [turn for _, _, turn in items] == [0] * 5 + [1] * 5 + [2] * 5 + [3]
    # Evenly used, each turn in another order.
    assert set(Counter(index for _, index, _ in items[:15]).values()) == {3}
    assert len({tuple(index for _, index, _ in items[5 * turn : 5 * turn + 5]) for turn in range(3)}) > 1
    # Shorter than the data set too.
    assert len(orders(30, batch_size=2, iterations=3)[0]) == 6


def test_arguments():
    with pytest.raises(ValueError, match="do not fill a batch of 4 on 2 processes"):
        ItemSampler(Numbers(7), 4, shuffle=True, rank=0, world_size=2)
    with pytest.raises(ValueError, match="iterations"):
        ItemSampler(Numbers(7), 4, shuffle=False, iterations=3)
    with pytest.raises(ValueError, match="iterations"):
        ItemSampler(Numbers(7), 4, shuffle=True, iterations=0)


def images(loader, epoch):
    loader.sampler.set_epoch(epoch)
    return [(batch["case"], batch["image"]) for batch in loader]


def test_workers_make_the_same_batches(dataset):
    alone, helped = (clip_loader(dataset, 3, True, workers, iterations=4, seed=2) for workers in (0, 2))
    assert len(alone) == len(helped) == 4
    for epoch in (1, 2):
        for (cases, image), (others, other) in zip(images(alone, epoch), images(helped, epoch), strict=True):
            assert cases == others
            assert image.shape == (3, 1, 4, 24, 24)
            assert torch.equal(image, other)
    assert not torch.equal(images(alone, 1)[0][1], images(alone, 2)[0][1])


def test_the_same_video_within_an_epoch_is_another_clip(dataset):
    batches = images(clip_loader(dataset, 4, True, iterations=8), 0)
    pairs = [pair for cases, image in batches for pair in zip(cases, image, strict=True)]
    clips = [clip for case, clip in pairs if case.endswith("tr_000")]
    assert len(clips) == 4
    assert not torch.equal(clips[0], clips[1])


def test_training_drops_the_incomplete_batch_and_evaluation_keeps_it(dataset):
    assert [len(batch["case"]) for batch in clip_loader(dataset, 3, True)] == [3, 3]
    assert [len(batch["case"]) for batch in clip_loader(dataset, 3, False)] == [3, 3, 2]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_names_the_file(echonet_copy, workers):
    records = echonet_records(echonet_copy, "all")
    path = records[4]["image"]
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) // 2)
    dataset = ClipDataset(records, EchoNetClips(training=False, length=4, size=24))
    with pytest.raises(DataError) as caught:
        list(clip_loader(dataset, 2, False, workers))
    named = caught.value.path
    # The traceback keeps the loader and its worker alive.
    del caught
    assert named == path


def test_clips_of_different_shape_are_refused(echonet_phantom):
    chain = EchoNetClips(training=False, length=4, size=24, start="all")
    dataset = ClipDataset(echonet_records(echonet_phantom, "all"), chain)
    with pytest.raises(DataError, match="different shapes"):
        list(clip_loader(dataset, 4, False))
    assert next(iter(clip_loader(dataset, 1, False)))["image"].ndim == 6


def test_mixed_batches_repeat(dataset):
    plain = images(clip_loader(dataset, 4, True, seed=1), 0)
    mixed, again = (images(clip_loader(dataset, 4, True, seed=1, mixup=True), 0) for _ in range(2))
    assert plain[0][0] == mixed[0][0]
    assert not torch.equal(plain[0][1], mixed[0][1])
    assert torch.equal(mixed[0][1], again[0][1])


def test_monai_engines_tell_the_sampler_their_epoch(dataset):
    loader = clip_loader(dataset, 4, True)
    assert isinstance(loader.sampler, DistributedSampler)
    seen = []
    network = torch.nn.Linear(1, 1)
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=3,
        train_data_loader=loader,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        loss_function=torch.nn.MSELoss(),
        prepare_batch=lambda batch, *_, **__: (batch["ef_percent"] / 100, batch["ef_percent"] / 100),
        iteration_update=lambda engine, batch: seen.append(batch["epoch"].unique().tolist()) or {"loss": 0.0},
    )
    trainer.run()
    assert seen == [[1], [1], [2], [2], [3], [3]]
