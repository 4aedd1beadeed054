"""From a batch of a data loader to the arguments of network and loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


class PrepareBatch:
    """``prepare_batch`` of MONAI's engines with a choice of keys.

    Args:
        target: key of what the loss is told beside the predictions, several keys for a dictionary of them, None for
            none. Keys that a batch lacks give None, as at inference.
        image: key of the network's input.
        network_keys: argument of the network to the key of its value.
        mix: function of the dictionary {key: tensor} of image and targets that returns one, such as mixup; for
            training.
    """

    def __init__(
        self,
        target: str | Sequence[str] | None = "label",
        image: str = "image",
        network_keys: Mapping[str, str] | None = None,
        mix: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None = None,
    ):
        self.image, self.target = image, target
        self.network_keys, self.mix = dict(network_keys or {}), mix

    def __call__(
        self,
        batch: Mapping[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **to: Any,
    ) -> tuple[torch.Tensor, Any, tuple, dict[str, Any]]:
        """Input, targets, no further positions, keyword arguments of the network; tensors on ``device``."""
        targets = [] if self.target is None else [self.target] if isinstance(self.target, str) else list(self.target)
        keys = [key for key in dict.fromkeys([self.image, *targets]) if key in batch]
        moved = {key: batch[key].to(device=device, non_blocking=non_blocking, **to) for key in keys}
        if self.mix is not None:
            moved = self.mix(moved)
        return moved[self.image], self._targets(moved, targets), (), self._network_arguments(batch, device)

    def _targets(self, moved: Mapping[str, torch.Tensor], targets: Sequence[str]) -> Any:
        if not targets or any(key not in moved for key in targets):
            return None
        return moved[targets[0]] if isinstance(self.target, str) else {key: moved[key] for key in targets}

    def _network_arguments(self, batch: Mapping[str, Any], device: torch.device | str | None) -> dict[str, Any]:
        values = {name: batch[key] for name, key in self.network_keys.items()}
        return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in values.items()}
