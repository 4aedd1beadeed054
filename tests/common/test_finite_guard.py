import math

import pytest
import torch
from torch import nn

from custom_apps.common.finite_guard import explain_nonfinite, nonfinite_gradients
from custom_apps.common.training_engine import NonFiniteLossError, Trainer


class Overflow(nn.Module):
    """Infinite from a size on, as half precision is."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def forward(self, x, *, scale=1.0):
        return torch.where(x.abs() > self.limit, math.inf, x * scale)


def network(limit=1e9):
    torch.manual_seed(0)
    stages = {"first": nn.Linear(3, 4), "norm": nn.BatchNorm1d(4), "exp": Overflow(limit), "last": nn.Linear(4, 1)}
    net = nn.Sequential()
    for name, module in stages.items():
        net.add_module(name, module)
    return nn.Sequential(net, nn.Dropout(0.5))


def explained(net, x):
    return explain_nonfinite(net, x, lambda: net(x))


def test_the_innermost_layer_is_named():
    x = torch.randn(5, 3)
    assert "layer '0.exp' (Overflow)" in explained(network(limit=0.1), x)
    assert "every layer's output is finite" in explained(network(), x)
    net = network()
    net[0].last.weight.data[0, 2] = math.nan
    assert explained(net, x).startswith("1 of 4 weights of '0.last.weight' are not finite")
    assert explained(network(), {"image": [x, torch.full((2, 2), math.inf)]}).startswith("the batch itself has 4 of 19")


def test_what_a_layer_computes_itself_is_its_own():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x):
            return self.inner(x).sqrt()

    net = nn.Sequential(Root())
    text = explained(net, torch.tensor([[-4.0, 1.0]]))
    assert "layer '0' (Root): 1 of 2 values, its input reaches 4" in text


def test_looking_changes_nothing():
    net, x = network(limit=0.1), torch.randn(5, 3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    explained(net, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_gradients_are_named_where_they_begin():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 1))
    net(torch.ones(1, 2)).sum().backward()
    assert "norm is not" in nonfinite_gradients(net)
    net[1].weight.grad[0, 0] = math.inf
    net[0].bias.grad.fill_(math.nan)
    assert nonfinite_gradients(net) == "gradients of 2 of 6 parameters are not finite, the last of them '1.weight'"


def train(net, loss, **options):
    batches = [{"image": torch.randn(5, 3), "label": torch.zeros(5, 1)} for _ in range(3)]
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    Trainer("cpu", 1, batches, net, optimizer, loss, decollate=False, clip_norm=1.0, **options).run()


def test_the_trainer_says_where_it_began(caplog):
    with pytest.raises(NonFiniteLossError, match=r"layer '0.exp' \(Overflow\).*lower the learning rate"):
        train(network(limit=0.1), nn.MSELoss())

    def steep(outputs, targets):
        return outputs.mean() + (outputs.sum() * 0).sqrt()

    with pytest.raises(NonFiniteLossError, match=r"gradient norm is nan.*gradients of 6 of 6 .*'0.last.bias'"):
        train(network(), steep)
    caplog.clear()
    with caplog.at_level("WARNING"):
        train(network(limit=0.1), nn.MSELoss(), nonfinite="skip")
    assert caplog.text.count("0.exp") == 1, "looked for once in a row"
    assert caplog.text.count("step skipped") == 3
