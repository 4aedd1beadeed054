import pytest
import torch
from torch import nn

from custom_apps.common.freezing import freeze
from custom_apps.common.parameter_groups import parameter_groups


class Scan(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.A_log = nn.Parameter(torch.zeros(2, 4))
        self.scale = nn.Parameter(torch.ones(2))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(2, 3)
        self.blocks = nn.ModuleList(Scan() for _ in range(2))
        self.table = nn.Parameter(torch.zeros(1, 3, 2))
        self.head = nn.Linear(2, 1)
        self.wide_bias = nn.Module()
        self.wide_bias.bias = nn.Parameter(torch.zeros(2, 2))

    def forward(self, x):
        return self.head(self.blocks[0].linear(self.embed(x)))


def names(net, group):
    known = {id(parameter): name for name, parameter in net.named_parameters()}
    return {known[id(parameter)] for parameter in group["params"]}


def test_no_decay_for_vectors_biases_and_named_ones():
    net = Net()
    decayed, others = parameter_groups(net, 1e-3, 0.1, no_decay=["A_log*"])
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert names(net, decayed) == {
        *("table", "embed.weight", "head.weight", "blocks.0.linear.weight", "blocks.1.linear.weight")
    }
    assert "wide_bias.bias" in names(net, others)
    assert len(decayed["params"]) + len(others["params"]) == len(list(net.parameters()))
    assert "blocks.0.A_log" in names(net, parameter_groups(net, 1e-3, 0.1)[0])


def test_named_parts():
    net = Net()
    groups = {g["name"]: g for g in parameter_groups(net, 1e-3, 0.1, parts={"head": {"learning_rate": 1e-2}})}
    assert groups["head"]["lr"] == groups["head_no_decay"]["lr"] == 1e-2
    assert groups["head"]["weight_decay"] == 0.1
    assert names(net, groups["head_no_decay"]) == {"head.bias"}
    with pytest.raises(ValueError, match="no parameter name contains haed"):
        parameter_groups(net, 1e-3, 0.1, parts={"haed": {}})


def test_rates_fall_towards_the_input():
    net = Net()
    layers = [["embed", "table"], ["blocks.0."], ["blocks.1."]]
    groups = parameter_groups(net, 1.0, 0.0, layer_decay=0.5, layers=layers)
    rates = {name: group["lr"] for group in groups for name in names(net, group)}
    assert rates["embed.weight"] == rates["table"] == 0.125
    assert rates["blocks.0.scale"] == 0.25
    assert rates["blocks.1.linear.bias"] == 0.5
    assert rates["head.weight"] == 1.0
    with pytest.raises(ValueError, match="no parameter name begins with"):
        parameter_groups(net, 1.0, 0.0, layer_decay=0.5, layers=[*layers, ["blocks.2."]])


def test_frozen_parts_are_left_alone():
    net = freeze(Net(), modules=["blocks.0"], parameters=["table"])
    net.train()
    net(torch.zeros(1, 2))
    assert not net.blocks[0].linear.training
    assert net.blocks[1].linear.training
    trained = {name for group in parameter_groups(net, 1e-3, 0.1) for name in names(net, group)}
    assert "table" not in trained
    assert not any(name.startswith("blocks.0.") for name in trained)
    assert "blocks.1.A_log" in trained
    with pytest.raises(ValueError, match=r"no module blocks\.7"):
        freeze(net, modules=["blocks.7"])
    with pytest.raises(ValueError, match="no parameter tabel"):
        freeze(net, parameters=["tabel"])
