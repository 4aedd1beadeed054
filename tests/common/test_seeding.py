import torch
from ignite.engine import Engine, Events

from custom_apps.common.seeding import SeededIterations, derived_seed, seeded


def test_seeds_are_distinct_and_valid():
    seeds = {derived_seed(a, b, c) for a in range(8) for b in range(8) for c in range(8)}
    assert len(seeds) == 512
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(1, 2) != derived_seed(2, 1)


def draws(seed, epochs, iterations=3, start=0):
    engine = Engine(lambda *_: found.append(torch.rand(1).item()))
    found = []
    SeededIterations(seed).attach(engine)

    @engine.on(Events.STARTED)
    def begin(engine):
        engine.state.epoch, engine.state.iteration = start, start * iterations

    engine.run(range(iterations), max_epochs=epochs)
    return found


def test_a_run_that_goes_on_draws_as_one_that_was_not_interrupted():
    whole = draws(4, 3)
    torch.manual_seed(99)
    assert draws(4, 3, start=1) == whole[3:]
    assert len(set(whole)) == 9
    assert draws(5, 1) != whole[:3]


def test_seeded_sets_back():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with seeded(12):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with seeded(12):
        assert torch.equal(torch.rand(2), inside)
