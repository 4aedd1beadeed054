from dataclasses import dataclass
from typing import NamedTuple

import torch

from custom_apps.common.nested import map_tensors


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


@dataclass
class Record:
    values: torch.Tensor
    name: str


def test_containers_keep_their_kind():
    one = torch.ones(1)
    value = {"a": [one, (one, "text")], "b": Pair(one, one), "c": Record(one, "name"), "d": None}
    result = map_tensors(value, lambda tensor: tensor + 1)
    assert result["a"][0] == result["a"][1][0] == result["b"].second == result["c"].values == 2
    assert isinstance(result["b"], Pair)
    assert isinstance(result["a"][1], tuple)
    assert result["c"].name == "name"
    assert result["a"][1][1] == "text"
    assert result["d"] is None
    assert one == 1
