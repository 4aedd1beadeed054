import numpy as np
import pytest
import torch
from monai.transforms import Compose, Lambdad, RandGaussianNoised

from custom_apps.common.errors import DataError
from custom_apps.common.item_dataset import ItemDataset, explained
from custom_apps.common.item_loader import ItemCollate, ItemSampler, item_loader


def fill(name):
    if name == "bad":
        raise RuntimeError("broken file")
    return torch.full((1, 3), float(name))


def dataset(names=("0", "1", "2", "3", "4"), seed=0):
    records = [{"image": name, "case": f"case {name}"} for name in names]
    return ItemDataset(records, Compose([Lambdad("image", fill), RandGaussianNoised("image", prob=1.0)]), seed)


def test_items_follow_from_seed_epoch_place_and_turn():
    items, again = dataset(), dataset()
    assert torch.equal(items[(2, 3, 1)]["image"], again[(2, 3, 1)]["image"])
    for other in ((3, 3, 1), (2, 3, 0), (2, 4, 1)):
        assert not torch.equal(items[(2, 3, 1)]["image"] - 3, again[other]["image"] - other[1])
    assert not torch.equal(items[(2, 3, 1)]["image"], dataset(seed=1)[(2, 3, 1)]["image"])
    items.set_epoch(2)
    assert torch.equal(items[3]["image"], again[(2, 3, 0)]["image"])
    assert (items[3]["index"], items[3]["epoch"]) == (3, 2)


def test_records_are_not_changed():
    items = dataset()
    items[0]["image"] += 1
    assert items.records[0] == {"image": "0", "case": "case 0"}


def test_errors_name_the_file():
    items = dataset(("0", "bad"))
    with pytest.raises(DataError, match=r"bad: cannot be loaded .*broken file"):
        items[1]
    assert isinstance(items.__getitems__([0, 1]), DataError)
    with pytest.raises(IndexError):
        items[2]
    with pytest.raises(ValueError, match="no records"):
        ItemDataset([], fill)


def test_error_of_a_case_becomes_one_of_its_file():
    record = {"image": ["a/b.nii", "a/c.nii"], "case": "b"}
    assert explained(DataError("b", "odd"), record).path == "a"
    assert explained(DataError("a/c.nii", "odd"), record).path == "a/c.nii"


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loader_raises_data_errors(num_workers):
    with pytest.raises(DataError, match="broken file"):
        list(item_loader(dataset(("0", "bad")), 2, shuffle=False, num_workers=num_workers))


def test_different_shapes_in_a_batch_name_a_case():
    items = [{"image": torch.zeros(n), "case": "x", "index": n, "epoch": 0} for n in (1, 2)]
    assert "different shapes" in str(ItemCollate()(items))


def test_batches_are_finished_with_repeatable_draws():
    def finish(batch, random):
        return batch | {"drawn": random.uniform()}

    first = [batch["drawn"] for batch in item_loader(dataset(), 2, shuffle=True, finish=finish)]
    assert len(first) == len(set(first)) == 2
    assert first == [batch["drawn"] for batch in item_loader(dataset(), 2, shuffle=True, finish=finish)]


def test_processes_share_the_items():
    shares = [list(ItemSampler(dataset(), 1, False, rank=rank, world_size=2)) for rank in range(2)]
    assert sorted(index for share in shares for _, index, _ in share) == list(range(5))
    shuffled = [list(ItemSampler(dataset(), 1, True, iterations=4, rank=rank, world_size=2)) for rank in range(2)]
    turns = sorted((turn, index) for share in shuffled for _, index, turn in share)
    assert turns[:5] == [(0, index) for index in range(5)]
    assert len(turns) == 8
    with pytest.raises(ValueError, match="do not fill a batch"):
        ItemSampler(dataset(), 3, True, rank=0, world_size=2)


def test_orders_differ_between_epochs():
    sampler = ItemSampler(dataset(), 1, True, rank=0, world_size=1)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append([index for _, index, _ in sampler])
    assert len({tuple(order) for order in orders}) > 1
    assert np.array_equal(np.sort(orders, axis=1), np.tile(np.arange(5), (3, 1)))
