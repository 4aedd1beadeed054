import pytest
import torch

from custom_apps.thyroid.schedules import WarmupPolynomial


def schedule(rates=(1e-4,), **options):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    return optimizer, WarmupPolynomial(optimizer, **options)


@pytest.mark.parametrize(("step", "rate"), [(750, 4.99625e-5), (1500, 9.985e-5), (121_000, 8.79e-5), (1_000_000, 0.0)])
def test_published_values(step, rate):
    optimizer, lr = schedule(steps=1_000_000)
    lr.step(step)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate, rel=5e-6, abs=1e-12)


def test_starts_low_and_scales_every_group():
    optimizer, lr = schedule((1.0, 0.25), steps=100, warmup_steps=10)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-6, 0.25e-6])
    for _ in range(55):
        lr.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.45, 0.1125])


def test_resumed_run_continues():
    _, first = schedule(steps=100, warmup_steps=10)
    for _ in range(7):
        first.step()
    optimizer, second = schedule(steps=100, warmup_steps=10)
    second.load_state_dict(first.state_dict())
    assert optimizer.param_groups[0]["lr"] == first.get_last_lr()[0]


def test_warmup_has_to_fit():
    with pytest.raises(ValueError, match="do not fit"):
        schedule(steps=10, warmup_steps=11)
