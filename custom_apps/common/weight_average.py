"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from ignite.engine import Engine
from torch import nn

from custom_apps.common.distributed import without_ddp
from custom_apps.common.training_engine import TrainingEvents


class WeightAverage:
    """Moving average of weights whose decay grows with the number of optimizer steps.

    As a handler of a :class:`~custom_apps.common.training_engine.Trainer` it follows every optimizer step. Until
    ``update_after_step`` the average is a copy of the weights; from then on, at every ``update_every``-th step ``s``,
    it keeps the share ``1 - (1 + (s - update_after_step) / inverse_gamma) ** -power``, at most ``beta``.

    Args:
        network: network to follow, DistributedDataParallel or not.
        beta: largest decay.
        update_after_step: steps that are copied only.
        update_every: steps between updates.
        power: exponent of the growth.
        inverse_gamma: scale of the growth, in steps.
        enabled: False keeps no average; ``network`` is then the given network itself.

    Attributes:
        network: the averaged network, in evaluation mode and without gradients.
        step: optimizer steps seen.

    Source: the schedule of ema-pytorch 0.4.5 (exponent 2/3), with which E-ViM3 was trained.
    """

    def __init__(
        self,
        network: nn.Module,
        beta: float = 0.9999,
        update_after_step: int = 100,
        update_every: int = 5,
        power: float = 2 / 3,
        inverse_gamma: float = 1.0,
        enabled: bool = True,
    ):
        self.online, self.enabled = network, enabled
        self.beta, self.update_after_step, self.update_every = beta, update_after_step, update_every
        self.power, self.inverse_gamma = power, inverse_gamma
        self.network = without_ddp(network)
        if enabled:
            self.network = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.step, self._started = 0, False

    @property
    def decay(self) -> float:
        """Share of the average that an update at the current step would keep."""
        late = max(0, self.step - self.update_after_step - 1)
        return min(self.beta, 1 - (1 + late / self.inverse_gamma) ** -self.power) if late else 0.0

    def attach(self, engine: Engine) -> None:
        """Registers the update after every optimizer step of a trainer."""
        if self.enabled:
            engine.add_event_handler(TrainingEvents.STEP_COMPLETED, self.update)

    def reset(self) -> None:
        """Makes the average a copy of the current weights, as after loading pre-trained ones."""
        if self.enabled:
            self._mix(0.0)

    @torch.no_grad()
    def update(self, _engine: Engine | None = None) -> None:
        """Follows one optimizer step."""
        before = self.step
        self.step += 1
        if before % self.update_every:
            return
        if before <= self.update_after_step or not self._started:
            self._started = before > self.update_after_step
            self._mix(0.0)
            return
        self._mix(self.decay)

    @torch.no_grad()
    def _mix(self, decay: float) -> None:
        online = without_ddp(self.online).state_dict()
        for name, average in self.network.state_dict().items():
            if decay and average.is_floating_point():
                average.lerp_(online[name].to(average.device), 1 - decay)
            else:
                average.copy_(online[name])

    def state_dict(self) -> dict[str, Any]:
        """Counter and averaged weights."""
        if not self.enabled:
            return {}
        return {"step": self.step, "started": self._started, "network": self.network.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from a stored average."""
        if bool(state_dict) != self.enabled:
            raise ValueError("a weight average is kept in only one of the two runs")
        if not self.enabled:
            return
        self.network.load_state_dict(state_dict["network"])
        self.step, self._started = int(state_dict["step"]), bool(state_dict["started"])
