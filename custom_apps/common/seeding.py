"""Random numbers that follow from seed and position alone, so that an interrupted training repeats itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from ignite.engine import Engine, Events

from custom_apps.common.distributed import rank

_MULTIPLIER = 0x9E3779B97F4A7C15
_BITS = 2**63


def derived_seed(*numbers: int) -> int:
    """A seed that mixes several numbers; neighbouring ones give unrelated seeds."""
    mixed = 0
    for number in numbers:
        # Steps of the SplitMix64 generator (Steele et al. 2014).
        mixed = (mixed + int(number) + 1) * _MULTIPLIER % 2**64
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
        mixed ^= mixed >> 31
    return mixed % _BITS


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seeds PyTorch's global generators for a while and then sets them back.

    Args:
        seed: any integer from 0 on.
        device: a GPU whose generator is meant too.
    """
    on_gpu = device is not None and device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        torch.manual_seed(seed)
        yield


class SeededIterations:
    """Handler that seeds PyTorch's global generators before every iteration, from seed, iteration and rank.

    What networks draw in training, such as the masks of an autoencoder, then needs no stored state: a resumed training
    draws the same. Processes draw differently.

    Args:
        seed: seed of the run.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Registers the handler on a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seeds the generators of CPU and GPU."""
        torch.manual_seed(derived_seed(self.seed, engine.state.iteration, rank()))
