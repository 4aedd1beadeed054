"""From a batch of a data loader to the arguments of network and loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch


class PrepareBatch:
    """``prepare_batch`` of MONAI's engines with a choice of keys.

    Args:
        target: key of what the loss is told beside the predictions, several keys for a dictionary of them. A batch
            that lacks one has no target, as at inference.
        image: key of the network's input. It may be the target too, as of an autoencoder.
    """

    def __init__(self, target: str | Sequence[str] = "label", image: str = "image"):
        self.image, self.target = image, target

    def __call__(
        self,
        batch: Mapping[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **to: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | dict[str, torch.Tensor] | None]:
        """Input and target on ``device``."""
        keys = [self.target] if isinstance(self.target, str) else list(self.target)
        wanted = dict.fromkeys([self.image, *keys])
        moved = {key: batch[key].to(device=device, non_blocking=non_blocking, **to) for key in wanted if key in batch}
        if any(key not in moved for key in keys):
            return moved[self.image], None
        return moved[self.image], moved[self.target] if isinstance(self.target, str) else {k: moved[k] for k in keys}
