"""Several networks as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class EnsembleNetwork(nn.Module):
    """Mean of the logits of several networks, as nnU-Net averages over folds (Isensee et al. 2021).

    Args:
        networks: at least one, all with the same heads; of those that return a list, as under deep supervision, the
            first entry counts.

    Raises:
        ValueError: for an empty list.
    """

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        if not networks:
            raise ValueError("an ensemble needs at least one network")
        self.networks = nn.ModuleList(networks)

    def forward(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        """Mean logits of ``x``, float32; further arguments are passed on."""
        total = None
        for network in self.networks:
            output = network(x, *args, **kwargs)
            logits = (output[0] if isinstance(output, (list, tuple)) else output).float()
            total = logits if total is None else total + logits
        return total / len(self.networks)
