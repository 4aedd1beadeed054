import pytest
import torch

from custom_apps.seg.schedules import PolyLR


def optimizer(lr=0.01):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(schedule, epochs):
    seen = []
    for _ in range(epochs):
        seen.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return seen


def test_published_curve():
    made = rates(PolyLR(optimizer(), 1000), 1001)
    assert made[0] == 0.01
    assert made[500] == pytest.approx(0.01 * 0.5**0.9)
    assert made[999] == pytest.approx(0.01 * 0.001**0.9)
    assert made[1000] == 0


def test_same_curve_as_pytorchs():
    theirs = rates(torch.optim.lr_scheduler.PolynomialLR(optimizer(), 20, 0.9), 22)
    assert rates(PolyLR(optimizer(), 20), 22) == pytest.approx(theirs, abs=1e-12)


def test_linear_continuation():
    made = rates(PolyLR(optimizer(1e-3), 499, exponent=1.0, final_lr=1e-5), 502)
    assert made[0] == 1e-3
    assert made[499] == made[501] == pytest.approx(1e-5)
    steps = torch.tensor(made[:500]).double().diff()
    assert steps.std() < 1e-9


def test_a_resumed_run_goes_on_and_may_be_prolonged():
    whole = rates(PolyLR(optimizer(), 10), 10)
    first = PolyLR(optimizer(), 10)
    rates(first, 4)
    second = PolyLR(optimizer(), 10)
    second.load_state_dict(first.state_dict())
    assert rates(second, 6) == pytest.approx(whole[4:])
    longer = PolyLR(optimizer(), 20)
    longer.load_state_dict(first.state_dict())
    assert rates(longer, 6) == pytest.approx(rates(PolyLR(optimizer(), 20), 10)[4:])
    with pytest.raises(ValueError, match="epochs"):
        PolyLR(optimizer(), 0)
