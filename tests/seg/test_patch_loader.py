import pytest
import torch

from custom_apps.seg.patch_loader import PatchLoader, PatchSampler, share_of_batch
from custom_apps.seg.patch_sampling import PatchDataset
from tests.seg.training_phantom import MemoryPrepared


def patches(batch_size=5, iterations=3):
    prepared = MemoryPrepared(batch_size=batch_size)
    return PatchDataset(prepared, prepared.cases, iterations, seed=1)


def test_the_batch_is_divided_by_its_rounded_up_share():
    assert [list(share_of_batch(5, r, 2)) for r in range(2)] == [[0, 1, 2], [3, 4]]
    assert [list(share_of_batch(7, r, 3)) for r in range(3)] == [[0, 1, 2], [3, 4, 5], [6]]
    for batch, processes in [(1, 2), (4, 3)]:
        with pytest.raises(ValueError, match="cannot be divided"):
            share_of_batch(batch, 0, processes)


def test_processes_together_see_the_batches_of_one_process():
    dataset = patches()
    alone = list(PatchLoader(dataset))
    shares = [list(PatchLoader(dataset, rank=rank, world_size=2)) for rank in range(2)]
    assert len(alone) == len(shares[0]) == len(PatchLoader(dataset)) == 3
    for whole, *parts in zip(alone, *shares, strict=True):
        assert torch.equal(whole["image"], torch.cat([part["image"] for part in parts]))
        assert torch.equal(whole["label"], torch.cat([part["label"] for part in parts]))
        assert whole["case"] == [name for part in parts for name in part["case"]]


def test_workers_that_live_on_see_the_new_epoch():
    dataset = patches(batch_size=2)
    with_workers, without = PatchLoader(dataset, num_workers=2), PatchLoader(dataset)
    seen = []
    for epoch in (1, 2):
        with_workers.sampler.set_epoch(epoch)
        without.sampler.set_epoch(epoch)
        for a, b in zip(with_workers, without, strict=True):
            assert torch.equal(a["image"], b["image"])
            seen.append(a["image"])
    assert not torch.equal(seen[0], seen[3])


def test_sampler_is_one_that_monai_tells_the_epoch():
    sampler = PatchSampler(patches())
    assert isinstance(sampler, torch.utils.data.distributed.DistributedSampler)
    sampler.set_epoch(7)
    assert list(sampler)[:2] == [(7, 0), (7, 1)]
    assert len(list(sampler)) == len(sampler) == 15
