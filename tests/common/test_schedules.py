import pytest
import torch

from custom_apps.common.schedules import SHAPES, WARMUPS, WarmupSchedule, scaled_learning_rate


def optimizer(*rates):
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


def curve(steps, count=None, rate=1.0, **options):
    schedule = WarmupSchedule(optimizer(rate), steps, **options)
    rates = []
    for _ in range(count or steps):
        rates.append(schedule.get_last_lr()[0])
        schedule.step()
    return rates


def test_cosine_touches_its_ends():
    rates = curve(20, 24, warmup_steps=4, final_ratio=0.1, rate=0.5)
    assert rates[0] == pytest.approx(0.05)
    assert rates[2] == pytest.approx((0.05 + 0.5) / 2)
    assert rates[4] == pytest.approx(0.5)
    assert rates[12] == pytest.approx((0.05 + 0.5) / 2)
    assert rates[20:] == pytest.approx([0.05] * 4)
    assert rates[4:21] == sorted(rates[4:21], reverse=True)


def test_schedule_of_masked_autoencoders():
    # He et al. 2022: rate · epoch / 40, then half a cosine to 0 at epoch 800; here with one step an epoch.
    rates = curve(800, rate=1.5e-4, warmup_steps=40, start_ratio=0.0, final_ratio=0.0)
    assert rates[10] == pytest.approx(3.75e-5)
    assert rates[40] == pytest.approx(1.5e-4)
    assert rates[100] == pytest.approx(1.47705e-4, rel=1e-5)
    assert rates[420] == pytest.approx(7.5e-5)


def test_a_run_may_end_within_the_warm_up():
    assert curve(2, warmup_steps=4, start_ratio=0.0) == [0.0, 0.25]
    assert curve(4, 6, warmup_steps=4, start_ratio=0.0, final_ratio=0.5)[3:] == [0.75, 1.0, 0.5]


def test_groups_keep_their_proportions():
    schedule = WarmupSchedule(optimizer(1.0, 0.25), 10, warmup_steps=2)
    for _ in range(12):
        first, second = schedule.get_last_lr()
        assert second == pytest.approx(first / 4)
        schedule.step()


@pytest.mark.parametrize("shape", SHAPES)
def test_resumed_schedule_goes_on(shape):
    options = {"shape": shape, "warmup_steps": 2, "milestones": [4, 7], "cycle": (5, 1.3)}
    whole = curve(11, **options)
    opt = optimizer(1.0)
    first = WarmupSchedule(opt, 11, **options)
    for _ in range(6):
        first.step()
    state = first.state_dict()
    assert state == {"last_epoch": 6}
    again = WarmupSchedule(optimizer(1.0), 11, **options)
    again.load_state_dict(state)
    assert again.optimizer.param_groups[0]["lr"] == whole[6]
    again.step()
    assert again.get_last_lr()[0] == whole[7]


def test_cycles_grow_shrink_and_join():
    rates = curve(40, shape="cosine_restart", warmup_steps=2, gamma=0.4, cycle=(10, 1.5), final_ratio=0.05)
    assert rates[2] == pytest.approx(1.0)
    assert rates[12] == pytest.approx(0.4)
    assert rates[10] == pytest.approx(0.05), "a cycle begins where the one before ends"
    assert rates[27] == pytest.approx(0.16)
    assert rates[25] == pytest.approx(0.05 * 0.4)


@pytest.mark.parametrize("warmup", WARMUPS)
def test_warm_ups_end_at_the_full_rate(warmup):
    rates = curve(30, warmup_steps=7, warmup=warmup, shape="constant")
    assert rates[7:] == [1.0] * 23
    assert all(0.01 <= rate <= 1 for rate in rates)


def test_stepping_before_the_optimizer_does_not_warn(recwarn):
    curve(5, warmup_steps=1)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": "sine"}, "shape"),
        ({"warmup": "slow"}, "warmup"),
        ({"warmup_steps": -1}, "do not fit"),
        ({"shape": "cosine_restart"}, "needs cycle"),
        ({"shape": "cosine_restart", "cycle": (3, 2.0), "warmup_steps": 3}, "do not fit"),
    ],
)
def test_impossible_schedules(options, message):
    with pytest.raises(ValueError, match=message):
        WarmupSchedule(optimizer(1.0), 9, **options)


def test_rate_in_proportion_to_the_batch():
    assert scaled_learning_rate(1e-3, 4, 4, 32) == pytest.approx(5e-4)
    assert scaled_learning_rate(1e-3, 4, 4, 0) == scaled_learning_rate(1e-3, 4, 4) == 1e-3
