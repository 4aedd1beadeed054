import pytest
import torch
from torch import nn

from custom_apps.common.training_engine import Trainer
from custom_apps.common.weight_average import WeightAverage


def network(value=0.0):
    net = nn.Linear(1, 1, bias=False)
    net.register_buffer("count", torch.tensor(0))
    nn.init.constant_(net.weight, value)
    return net


def follow(average, values):
    seen = []
    for value in values:
        with torch.no_grad():
            average.online.weight.fill_(value)
        average.update()
        seen.append(average.network.weight.item())
    return seen


def test_copies_first_and_averages_at_every_so_manieth_step():
    average = WeightAverage(network(), update_after_step=3, update_every=2)
    # Steps 0 and 2 are before the end of copying, step 4 is the first update after it, which copies too.
    seen = follow(average, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0])
    assert seen[:6] == [1.0, 1.0, 3.0, 3.0, 5.0, 5.0]
    decay = 1 - (1 + 7 - 4) ** (-2 / 3)
    assert seen[6] == pytest.approx(5 * decay + 9 * (1 - decay), rel=1e-6)
    assert average.decay == pytest.approx(decay)


def test_decay_is_capped():
    average = WeightAverage(network(), beta=0.9, update_after_step=0)
    average.step = 10**6
    assert average.decay == 0.9


def test_interrupted_average_goes_on():
    values = [float(i % 7) for i in range(40)]
    options = {"update_after_step": 4, "update_every": 3}
    whole = follow(WeightAverage(network(), **options), values)
    first = WeightAverage(network(), **options)
    follow(first, values[:17])
    second = WeightAverage(network(-1.0), **options)
    second.load_state_dict(first.state_dict())
    assert follow(second, values[17:]) == whole[17:]


def test_reset_and_integers_are_copied():
    average = WeightAverage(network(), update_after_step=0, update_every=1)
    follow(average, [1.0, 2.0, 3.0])
    average.online.count += 5
    average.update()
    assert average.network.count == 5
    average.reset()
    assert average.network.weight.item() == 3.0


def test_follows_every_step_of_a_trainer_and_does_not_learn():
    net = network(1.0)
    average = WeightAverage(net, update_after_step=100, update_every=1)
    batches = [{"image": torch.ones(2, 1), "label": torch.zeros(2, 1)}] * 5
    trainer = Trainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=batches,
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        loss_function=nn.MSELoss(),
        accumulation_steps=2,
        train_handlers=[average],
    )
    trainer.run()
    assert average.step == 2, "five batches make two steps; the fifth is dropped"
    assert torch.equal(average.network.weight, net.weight)
    assert average.network.weight.item() == pytest.approx(0.8**2)
    assert not average.network.weight.requires_grad
    assert not average.network.training


def test_switched_off_it_is_the_network_itself():
    net = network(1.0)
    average = WeightAverage(net, enabled=False)
    assert average.network is net
    average.reset()
    average.load_state_dict(average.state_dict())
    with pytest.raises(ValueError, match="only one of the two runs"):
        average.load_state_dict(WeightAverage(net).state_dict())
